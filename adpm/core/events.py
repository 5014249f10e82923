"""What a use case tells its listener while it works. Values only: who listens decides what a person sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version

from adpm.core.names import Alias, Digest, PackageName

__all__ = ["Changed", "Event", "Fetched", "Fetching", "Listener", "Note", "Repaired", "ignore"]


@dataclass(frozen=True, slots=True)
class Fetching:
    """A download of ``files`` blobs, ``size`` bytes in all, begins."""

    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """``size`` more bytes of the file ``path`` of ``package`` have arrived, of ``of`` in all; ``done``: all of it is
    there and is what it should be. ``resumed``: an earlier call had brought these."""

    size: int
    package: PackageName
    path: str
    of: int
    done: bool = False
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """The lock holds another version of a package than before; None: not in the lock before, or no longer."""

    package: PackageName
    before: Version | None
    after: Version | None
    alias: Alias | None = None


@dataclass(frozen=True, slots=True)
class Repaired:
    """An object of the store was corrupt; it was set aside and fetched again."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user that is no error."""

    text: str


Event = Fetching | Fetched | Changed | Repaired | Note
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of callers who want none."""
