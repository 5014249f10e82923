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
from adpm.store.durable import each_synced, link_into_place, sync, sync_all, temporary, write, write_all
from adpm.store.get import has, quarantine
from adpm.store.layout import object_path
from adpm.store.link import shared_file
from adpm.store.partial import Partial

__all__ = ["Batch", "mismatch"]


class Batch:
    """Objects that become durable, and visible to others, together: one wait for the disk instead of one an object.

    As a context manager it places what was put when it ends, also when it ends by an error: what is whole need not be
    fetched again. Threads may put at once. It places early when too much waits; see ``limits.BATCH_FILES``.

    What waits is, by its size, in memory, in a file of its own, or in what was a partial download.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: dict[Blob, bytes | Path | Partial] = {}
        self._files = self._size = self._held = 0
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
            if expected is not None and expected.size <= limits.SMALL_BYTES:
                return self._take(expected, _read(chunks, expected))
            return self._put_file(chunks, expected)
        except OSError as error:
            raise _failed(self._root, error) from error
        finally:
            if isinstance(chunks, Generator):
                chunks.close()  # an error must not leave its connection open

    def share(self, file: Path, blob: Blob) -> bool:
        """Take the bytes of ``file``, without a copy; False where that is not possible, or where they are others.

        It shares its blocks with the object, or becomes one file with it, which then is read-only under either name:
        so only for files that nobody writes into, which others may still replace or remove.
        """
        if self.has(blob):
            return True
        try:
            shared = shared_file(file, blob, self._root / "tmp")
            if shared is None:
                return False
            self._take(blob, shared)
        except OSError as error:
            raise _failed(self._root, error) from error
        return True

    def partial(self, blob: Blob) -> Partial | None:
        """A download of ``blob`` to go on with, or to begin; None if another process is at it: then ``put`` it.

        It must end in ``complete``, ``Partial.discard`` or ``Partial.close``.
        """
        try:
            return Partial.open(self._root / "staging", blob)
        except OSError as error:
            raise _failed(self._root, error) from error

    def write(self, partial: Partial, position: int, chunks: Iterable[bytes]) -> Generator[int]:
        """See ``Partial.write``."""
        try:
            yield from partial.write(position, chunks)
        except OSError as error:
            raise _failed(self._root, error) from error

    def complete(self, partial: Partial) -> bool:
        """Take a download of which nothing is missing. False, and it is gone, if its digest is not the blob's."""
        try:
            if partial.digest() != partial.blob.digest.hex:
                partial.discard()
                return False
            partial.finish()
            self._take(partial.blob, partial)
        except OSError as error:
            partial.close()
            raise _failed(self._root, error) from error
        return True

    def place(self) -> None:
        """Make everything put so far durable and visible."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._files = self._size = self._held = 0
        directories: set[Path] = set()

        def place_one(entry: tuple[Blob, bytes | Path | Partial]) -> None:
            blob, content = entry
            path = self._synced(content)
            self._displace_damaged(blob)
            directories.update(link_into_place(path, Path(object_path(self._root, blob.digest)))[1])

        try:
            each_synced(place_one, list(waiting.items()))
            sync_all(directories)
        except OSError as error:
            raise _failed(self._root, error) from error
        finally:
            for content in waiting.values():
                if isinstance(content, Partial):
                    content.close()

    def _put_file(self, chunks: Iterable[bytes], expected: Blob | None) -> Blob:
        descriptor, path = temporary(self._root / "tmp")
        try:
            blob = _write(descriptor, chunks, expected)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return self._take(blob, path)

    def _take(self, blob: Blob, content: bytes | Path | Partial) -> Blob:
        with self._lock:
            known = blob in self._waiting
            if not known:
                self._waiting[blob] = content
                if isinstance(content, bytes):
                    self._held += blob.size
                else:
                    self._files, self._size = self._files + 1, self._size + blob.size
            full = (
                self._files >= limits.BATCH_FILES
                or self._size >= limits.BATCH_BYTES
                or self._held >= limits.BATCH_HELD_BYTES
            )
        if known and isinstance(content, Path):
            content.unlink()
        elif known and isinstance(content, Partial):
            content.discard()
        if full:
            self.place()
        return blob

    def _synced(self, content: bytes | Path | Partial) -> Path:
        """The file that holds ``content``, durable."""
        if isinstance(content, bytes):
            return write(self._root / "tmp", [content], 0o444)
        if isinstance(content, Path):
            sync(content)
            return content
        content.sync()
        return content.path

    def _displace_damaged(self, blob: Blob) -> None:
        """An object of the wrong size must not keep its name from the right one."""
        path = object_path(self._root, blob.digest)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return
        if status.st_size != blob.size:
            quarantine(self._root, path, status)


def _read(chunks: Iterable[bytes], expected: Blob) -> bytes:
    """All of ``chunks``, which must be what is ``expected``."""
    out = bytearray()
    for chunk in chunks:
        out += chunk
        if len(out) > expected.size:
            raise mismatch(expected, f"more than {expected.size} bytes arrived")
    data = bytes(out)
    _check(Blob(Digest.of(data), len(data)), expected)
    return data


def _write(descriptor: int, chunks: Iterable[bytes], expected: Blob | None) -> Blob:
    digest, size = hashlib.sha256(), 0
    most = limits.BLOB_BYTES if expected is None else expected.size
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise mismatch(expected, f"more than {most} bytes arrived")
            digest.update(chunk)
            write_all(file.fileno(), chunk)
        os.fchmod(descriptor, 0o444)
    blob = Blob(Digest(f"sha256:{digest.hexdigest()}"), size)
    if expected is not None:
        _check(blob, expected)
    return blob


def _check(found: Blob, expected: Blob) -> None:
    if found != expected:
        raise mismatch(expected, f"{found.size} bytes with {found.digest} arrived")


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
