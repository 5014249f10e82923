"""What an object store can do: keys to bytes, and, where it keeps its promises, writes on a condition."""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import ClassVar, Final

from adpm import limits
from adpm.errors import AdpmError
from adpm.registry.place import Ability, Content

__all__ = ["STAGE", "Bucket", "stage_name"]

STAGE: Final = ".adpm/tmp"
"""Where files lie that are being written, in stores that know renaming."""

_STAGED: Final = re.compile(r"([0-9a-f]{1,12})-[0-9a-f]{32}\Z")


class Bucket(ABC):
    """Objects below one prefix; ``key`` is relative to it. Threads may share one.

    An object appears whole or not at all. Methods raise ``FileNotFoundError`` where nothing lies under a key,
    ``LoginNeededError``, ``NetworkError`` and ``NotFoundError``, and may let any other ``OSError`` pass.
    """

    can_create: ClassVar[bool]
    """Whether ``put_new`` asks the store itself for the condition. Whether that one keeps it is another question."""

    can_swap: ClassVar[bool]
    """The same of ``swap``."""

    stages: ClassVar[bool] = False
    """Whether files are written in ``STAGE`` and renamed when they are whole."""

    @abstractmethod
    def get(self, key: str, limit: int) -> Content:
        """A document of at most ``limit`` bytes, else ``NetworkError`` (``response-too-large``)."""

    def get_changed(self, key: str, limit: int, token: str) -> Content | None:  # noqa: ARG002 - where a store can't ask
        """``get``; None if the content is still the one of ``token``, which is not moved then."""
        return self.get(key, limit)

    @abstractmethod
    def stream(self, key: str, size: int, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        """The bytes from ``start`` up to ``stop`` as they come; there should be ``size`` of them in all."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """How many bytes lie under ``key``; None where nothing does."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write, whatever was there."""

    @abstractmethod
    def put_new(self, key: str, data: bytes) -> bool:
        """Write if nothing is there; whether nothing was."""

    @abstractmethod
    def swap(self, key: str, data: bytes, token: str) -> bool:
        """Write if the content is still the one of ``token``; whether it was."""

    @abstractmethod
    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write what may be large. An error of ``chunks`` leaves nothing under ``key``."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """All keys that begin with ``prefix``, which ends in ``/`` or is empty; without the prefix."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove what lies under ``key``, if anything does; a ``key`` that ends in ``/`` is an empty collection, which
        most stores don't have."""

    def sweep(self) -> None:
        """Remove from ``STAGE`` what writers left there that were killed; it is in nobody's way if that fails."""
        if self.stages:
            with suppress(AdpmError, OSError):
                for name in self.list(f"{STAGE}/"):
                    if _is_stale(name):
                        self.remove(f"{STAGE}/{name}")

    def check(self, *, write: bool) -> Iterator[Ability]:  # noqa: ARG002 - for stores that have more to say
        """What there is to say beyond what can be measured with the methods above."""
        return iter(())


def stage_name() -> str:
    """A key below ``STAGE`` that nobody else has, from which can be told when it was made."""
    return f"{STAGE}/{int(time.time()):x}-{secrets.token_hex(16)}"


def _is_stale(name: str) -> bool:
    """Whether a file in ``STAGE`` is one whose writer was killed: older than any writer lives, by its name, since the
    server's clock may be wrong."""
    made = _STAGED.match(name)
    return made is not None and int(made[1], 16) < time.time() - limits.TEMPORARY_AGE_SECONDS
