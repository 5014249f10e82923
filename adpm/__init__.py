"""adpm: a git-like, decentralised package manager and runtime for transformer adapters.

    import adpm
    adapters = adpm.load(model)        # what adapter.lock pins, verified, stitched into your model

Names are imported when they are first used: ``import adpm`` itself needs neither torch nor a network library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from adpm.errors import AdpmError
    from adpm.runtime.adapters import Adapters, attach
    from adpm.runtime.load import load
    from adpm.runtime.merge import merge
    from adpm.version import __version__

__all__ = ["Adapters", "AdpmError", "__version__", "attach", "load", "merge"]

_HOMES: Final = {
    "Adapters": "adpm.runtime.adapters",
    "AdpmError": "adpm.errors",
    "__version__": "adpm.version",
    "attach": "adpm.runtime.adapters",
    "load": "adpm.runtime.load",
    "merge": "adpm.runtime.merge",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
