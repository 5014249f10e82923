"""From ``hf://`` to a registry, if the Hub's library is installed. It takes long to import: nothing else does."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adpm.errors import UsageError
from adpm.net.offline import refuse_if_offline
from adpm.net.url import shown

if TYPE_CHECKING:
    from adpm.registry.hub import HubRegistry
    from adpm.registry.hub_commits import Revision

__all__ = ["open_hub", "open_revision"]

_OWNER: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9_.])*\Z")
# What the library does beside its work, unless the user has set otherwise: read by it once, when it is imported.
_QUIET: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_VERBOSITY": "error",
}


def open_hub(name: str, url: str, base_dir: Path, cache: Path | None) -> HubRegistry:  # noqa: ARG001 - an Opener
    """The models of ``hf://OWNER``, or with ``hf://`` those of everybody.

    Which Hub, and which login, is what its library finds: ``HF_ENDPOINT``, ``HF_TOKEN``. Raises ``UsageError``
    (``url-invalid``, ``extra-missing``).
    """
    owner = url.partition("://")[2].rstrip("/") or None
    if owner is not None and not _OWNER.match(owner):
        raise UsageError(
            "url-invalid",
            f"{shown(url)!r} is no address on the Hub",
            hint="write it as hf://OWNER, or as hf:// for packages whose names begin with their owner; "
            "another Hub is named by HF_ENDPOINT, a login by HF_TOKEN",
        )
    _need_library(f"registry {name} is at {shown(url)}")
    from adpm.registry.hub import HubRegistry  # noqa: PLC0415 - it imports the library
    from adpm.registry.hub_commits import connected  # noqa: PLC0415 - as above

    api, commits = connected(cache)
    return HubRegistry(name, shown(url) if owner else "hf://", api, owner, commits)


def open_revision(repository: str, revision: str | None, cache: Path | None) -> Revision:
    """What ``repository`` holds at a branch, tag or commit (None: ``main``); see ``Commits.at``."""
    refuse_if_offline(f"hf:{repository}")
    _need_library(f"an adapter is wanted from the Hub's {repository}")
    from adpm.registry.hub_commits import connected  # noqa: PLC0415 - it imports the library

    return connected(cache)[1].at(repository, revision)


def _need_library(why: str) -> None:
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    try:
        importlib.import_module("huggingface_hub.hf_api")
    except ImportError as error:
        raise UsageError(
            "extra-missing",
            f"{why}, and what that needs is not installed",
            cause=str(error),
            hint="pip install 'adpm[hub]'",
        ) from error
