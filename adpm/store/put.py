"""Putting bytes into the store: streamed, hashed, checked, and durable before anyone can see them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import IntegrityError, StoreError
from adpm.store.durable import link_into_place, sync, sync_all, temporary
from adpm.store.get import has, quarantine
from adpm.store.layout import object_path
from adpm.store.parallel import in_parallel

__all__ = ["Batch", "mismatch"]


class Batch:
    """Objects that become durable, and visible to others, together: one wait for the disk instead of one an object.

    As a context manager it places what was put when it ends, also when it ends by an error: what is whole need not be
    fetched again. Threads may put at once. It places early after ``limits.BATCH_FILES`` or ``limits.BATCH_BYTES``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: dict[Blob, Path] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.place()

    def has(self, blob: Blob) -> bool:
        """Whether the store, or this batch, holds ``blob``; a stat, no hashing."""
        return blob in self._waiting or has(self._root, blob)

    def put(self, chunks: Iterable[bytes], expected: Blob | None = None) -> Blob:
        """Take the bytes of ``chunks``; they are in the store once the batch has ended.

        ``chunks`` is not touched if ``expected`` is there already. Raises ``IntegrityError`` (``digest-mismatch``) at
        the first byte too many, or at the end if size or digest differ; nothing is kept then.
        """
        if expected is not None and self.has(expected):
            return expected
        try:
            descriptor, path = temporary(self._root / "tmp")
            try:
                blob = _write(descriptor, chunks, expected)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                if isinstance(chunks, Generator):
                    chunks.close()  # an error must not leave its connection open
        except OSError as error:
            raise _failed(self._root, error) from error
        with self._lock:
            if blob in self._waiting:
                path.unlink()
                return blob
            self._waiting[blob] = path
            many = len(self._waiting) >= limits.BATCH_FILES
            full = many or sum(waiting.size for waiting in self._waiting) >= limits.BATCH_BYTES
        if full:
            self.place()
        return blob

    def place(self) -> None:
        """Make everything put so far durable and visible."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        try:
            in_parallel(sync, list(waiting.values()), threads=limits.SYNC_THREADS)
            directories: set[Path] = set()
            for blob, path in waiting.items():
                self._displace_damaged(blob)
                directories |= link_into_place(path, Path(object_path(self._root, blob.digest)))[1]
            sync_all(directories)
        except OSError as error:
            raise _failed(self._root, error) from error

    def _displace_damaged(self, blob: Blob) -> None:
        """An object of the wrong size must not keep its name from the right one."""
        path = object_path(self._root, blob.digest)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return
        if status.st_size != blob.size:
            quarantine(self._root, path, status)


def _write(descriptor: int, chunks: Iterable[bytes], expected: Blob | None) -> Blob:
    digest, size = hashlib.sha256(), 0
    most = limits.BLOB_BYTES if expected is None else expected.size
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise mismatch(expected, f"more than {most} bytes arrived")
            digest.update(chunk)
            _write_all(file.fileno(), chunk)
        os.fchmod(descriptor, 0o444)
    blob = Blob(Digest(f"sha256:{digest.hexdigest()}"), size)
    if expected is not None and blob != expected:
        raise mismatch(expected, f"{size} bytes with {blob.digest} arrived")
    return blob


def _write_all(descriptor: int, chunk: bytes) -> None:
    """``os.write`` may write less than it was given."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def mismatch(expected: Blob | None, found: str) -> IntegrityError:
    wanted = (
        f"at most {limits.BLOB_BYTES} bytes" if expected is None else f"{expected.size} bytes with {expected.digest}"
    )
    return IntegrityError(
        "digest-mismatch",
        "the bytes that arrived are not the ones that were asked for",
        cause=f"wanted {wanted}, but {found}",
        hint="run the command again; if it stays so, the registry or something on the way to it changed the bytes",
        expected=expected,
    )


def _failed(root: Path, error: OSError) -> StoreError:
    return StoreError(
        "store-failed",
        f"could not write to the store {root}",
        cause=str(error),
        hint="free space or fix its permissions, or put the store elsewhere by setting ADPM_HOME",
    )
