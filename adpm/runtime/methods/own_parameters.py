"""A module's parameters of which one thread sees others, for as long as it runs the module.

torch's own parametrisation changes the module's class and what all threads see. Here the mapping that a module looks
its parameters up in is another one while something is lent: a lookup by name gives a thread what was lent to it; going
through the mapping, as ``parameters()`` and ``state_dict()`` do, gives the module's own.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from torch import Tensor, nn

__all__ = ["give_back", "lend"]

_LOCK: Final = threading.Lock()


class _Lent(dict[str, Any]):
    """``lent``: what threads see instead, by the thread and the name."""

    def __init__(self, own: dict[str, Any]) -> None:
        super().__init__(own)
        self.own = own
        self.lent: dict[tuple[int, str], Tensor] = {}

    def __getitem__(self, name: str) -> Any:
        found = self.lent.get((threading.get_ident(), name))
        return super().__getitem__(name) if found is None else found


def lend(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Let this thread see ``tensor`` where ``module`` looks up its parameter ``name``, until ``give_back``."""
    with _LOCK:
        found = module.__dict__["_parameters"]
        if not isinstance(found, _Lent):
            found = module.__dict__["_parameters"] = _Lent(found)
        found.lent[threading.get_ident(), name] = tensor


def give_back(module: nn.Module, name: str) -> None:
    """Undo ``lend``; nothing happens where nothing is lent."""
    with _LOCK:
        found = module.__dict__["_parameters"]
        if isinstance(found, _Lent):
            found.lent.pop((threading.get_ident(), name), None)
            if not found.lent:
                module.__dict__["_parameters"] = found.own
