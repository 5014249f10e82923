"""Mirrors of a registry: whoever has a blob may serve it, since its digest decides. They decide nothing else."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from threading import Lock
from typing import IO, Protocol, TypeVar

from adpm import limits
from adpm.core.names import PackageName
from adpm.core.release import Blob
from adpm.errors import AdpmError, NotFoundError
from adpm.store.files import chunks_of
from adpm.store.put import mismatch

__all__ = ["Mirror", "Mirrors"]

T = TypeVar("T")


class Mirror(Protocol):
    """What is asked of a registry that is a mirror."""

    @property
    def address(self) -> str: ...

    def release(self, name: PackageName, blob: Blob) -> bytes: ...

    def card(self, name: PackageName, blob: Blob) -> bytes: ...

    def blob(self, name: PackageName, blob: Blob) -> Generator[bytes]: ...


class _Slow(Exception):
    pass


class Mirrors:
    """Mirrors in the order in which they are asked. One that fails is not asked again; one that only lacks a blob is.

    Threads may share it. Each mirror is opened when it is first asked.
    """

    def __init__(self, addresses: Sequence[str], opener: Callable[[str], Mirror]) -> None:
        self._addresses = tuple(addresses)
        self._open = opener
        self._opened: dict[str, Mirror] = {}
        self._failed: dict[str, str] = {}
        self._lock = Lock()

    def document(self, ask: Callable[[Mirror], bytes]) -> bytes | None:
        """What the first mirror gives that has it, which ``ask`` has verified; None if none does."""
        return self._first(ask)

    def blob(self, name: PackageName, blob: Blob) -> Generator[bytes] | None:
        """The bytes of ``blob``, verified before the first of them is given; None if no mirror has it."""
        file = self._first(lambda mirror: _verified(mirror, name, blob))
        return None if file is None else chunks_of(file)

    def faults(self) -> list[str]:
        """What was wrong with those that are not asked any more, a sentence each."""
        with self._lock:
            return [f"mirror {address} is not used: {why}" for address, why in self._failed.items()]

    def _first(self, ask: Callable[[Mirror], T]) -> T | None:
        for address in self._addresses:
            with self._lock:
                if address in self._failed:
                    continue
            try:
                return ask(self._mirror(address))
            except _Slow:
                why = f"less than {limits.MIRROR_BYTES_PER_SECOND} bytes came in a second"
            except AdpmError as error:
                if isinstance(error, NotFoundError) and error.code == "blob-missing":
                    continue
                why = str(error)
            with self._lock:
                self._failed[address] = why
        return None

    def _mirror(self, address: str) -> Mirror:
        with self._lock:
            if address not in self._opened:
                self._opened[address] = self._open(address)
            return self._opened[address]


def _verified(mirror: Mirror, name: PackageName, blob: Blob) -> IO[bytes]:
    """The whole blob, in memory or, if it is large, in a file that is gone when it is closed."""
    digest, size, began = hashlib.sha256(), 0, time.monotonic()
    file = tempfile.SpooledTemporaryFile(max_size=limits.PART_BYTES)  # noqa: SIM115 - closed by who reads it
    try:
        for chunk in mirror.blob(name, blob):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
            took = time.monotonic() - began
            if size > blob.size:
                raise mismatch(blob, f"more than {blob.size} bytes arrived from {mirror.address}")
            if took > limits.MIRROR_SECONDS and size < took * limits.MIRROR_BYTES_PER_SECOND:
                raise _Slow
        if size != blob.size or digest.hexdigest() != blob.digest.hex:
            raise mismatch(blob, f"{size} bytes with sha256:{digest.hexdigest()} arrived from {mirror.address}")
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file
