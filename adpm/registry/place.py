"""Places that hold bytes under paths: what a directory, a web server and an object store have in common.

Paths are relative, ``/``-separated, of characters that mean nothing special anywhere. Methods raise
``FileNotFoundError`` where nothing lies at a path, and may let any other ``OSError`` pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from adpm.core.names import Digest

__all__ = ["Ability", "Content", "Place", "WritablePlace"]


@dataclass(frozen=True, slots=True)
class Ability:
    """What a place or registry was found to be able to do. ``ok`` None: not tried, or neither good nor bad; ``words``
    say what was seen."""

    name: str
    ok: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Content:
    """What lay at a path when it was read; ``token`` stands for this content in ``WritablePlace.replace``.

    It is None only where a place takes no writes: there, None stands for nothing at all.
    """

    data: bytes
    token: str | None


class Place(ABC):
    """A place to read from."""

    has_parts: ClassVar[bool] = False
    """Whether ``part`` can be asked for several pieces at once, to some use."""

    @abstractmethod
    def read(self, path: str, limit: int) -> Content:
        """A document of at most ``limit`` bytes; a larger one is an error, never cut."""

    @abstractmethod
    def stream(self, path: str, size: int) -> Generator[bytes]:
        """The bytes at ``path`` as they come. ``size`` is how many there should be; nobody need check that here."""

    def part(self, path: str, size: int, start: int, stop: int | None) -> Generator[bytes] | None:  # noqa: ARG002 - for places that know no parts
        """``stream`` from ``start`` on, see ``Registry.part``; None where the place can't begin in the middle."""
        return None

    def writable(self) -> WritablePlace | str:
        """The same place to write to, or why there is none. Cost: may ask a server, once."""
        return "it is of a kind that is read only"

    def check(self, *, write: bool) -> Iterator[Ability]:  # noqa: ARG002 - for places that have more to say
        """What there is to say of the place beyond what can be measured with its methods, tried now.

        Errors of what must work for anything to work are raised. Nothing is written unless ``write``.
        """
        return iter(())


class WritablePlace(Place):
    """A place to write to. What a method has written is durable when it returns."""

    def writable(self) -> WritablePlace | str:
        return self

    @abstractmethod
    def has(self, path: str, size: int) -> bool:
        """Whether something of ``size`` bytes lies at ``path``."""

    @abstractmethod
    def create(self, path: str, chunks: Iterable[bytes]) -> bool:
        """Write to ``path`` unless something is there; whether nothing was. Whole or not at all."""

    @abstractmethod
    def replace(self, path: str, data: bytes, token: str | None) -> bool:
        """Put ``data`` in place of the content that ``token`` stands for (None: of nothing); whether that was there.

        A place that can't tell writes and answers False. So False means: read again, and see what is lacking now.
        """

    locks: ClassVar[bool] = False
    """Whether ``exclusive`` does keep others away."""

    @property
    def swaps(self) -> bool:
        """Whether ``replace`` loses no other writer's work; then ``remove`` works, too."""
        return False

    def claim(self, path: str, digest: Digest) -> Digest:  # noqa: ARG002 - for places without locks
        """Who may commit what ``path`` names (a version of a package): the first to ask, ``digest`` or another.

        Where ``exclusive`` keeps others away, that is who asks. A claim says nothing to readers.
        """
        return digest

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """All paths that begin with ``prefix``, which ends in ``/`` or is empty, in no order; without the prefix."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove what lies at ``path``, which is nobody's but the caller's; with a ``/`` at its end an empty directory,
        where the place has such. No error where nothing is."""

    @abstractmethod
    def exclusive(self, path: str) -> AbstractContextManager[None]:
        """Keep other writers from ``path`` and below as long as it lasts, where the place can; else do nothing.

        Only ``replace`` must be relied on for safety; this spares it from losing races.
        """
