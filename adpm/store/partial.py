"""A download that may end with its process and go on in the next one.

``staging/<hex>`` holds the bytes of the object ``<hex>`` that have arrived, each at its place, and behind them, from
the object's size on, a journal: one line ``START STOP`` for bytes that are there. Bytes of a piece come in order,
pieces in any. Whoever writes holds a lock on the file; another process that wants the object meanwhile fetches its own.
Nothing in the file is believed: what counts is the digest of all bytes at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, Self

from adpm import limits
from adpm.core.release import Blob

__all__ = ["Partial"]

_WHOLE: Final = 0o444
_LINE: Final = re.compile(rb"([0-9]{1,18}) ([0-9]{1,18})\n")


class Partial:
    """What has arrived of ``blob``. Threads may write different pieces at once. Close it, or take its file away.

    Errors are those of the file system; who opens one must be ready for them.
    """

    def __init__(self, descriptor: int, path: Path, blob: Blob) -> None:
        self.path = path
        self.blob = blob
        self._descriptor = descriptor
        self._starts = range(0, blob.size, limits.PIECE_BYTES)
        self._reached = list(self._starts)
        self._lock = Lock()
        self._hashing = Lock()
        self._digest, self._hashed = hashlib.sha256(), 0
        self._finished = _is_whole(descriptor, blob)
        self._whole = 0  # so many pieces from the first on are whole
        self._end = self._read_journal()
        self.resumed = sum(self._reached) - sum(self._starts)
        """How many bytes an earlier process left."""

    @classmethod
    def open(cls, directory: Path, blob: Blob) -> Self | None:
        """The file for ``blob`` in ``directory``; None while another process, or another thread, writes to it."""
        path = directory / blob.digest.hex
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                directory.mkdir(parents=True, exist_ok=True)
                continue
            except PermissionError:
                whole = _opened_whole(path, blob)
                if whole is None:
                    return None  # another user's
                descriptor = whole
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                names = os.fstat(descriptor).st_nlink
                if names == 1:
                    return cls(descriptor, path, blob)
                if names > 1:  # its writer died when it had made an object of it
                    path.unlink(missing_ok=True)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it was taken away between the two calls

    def missing(self) -> Iterator[tuple[int, int]]:
        """What is missing of each piece: where it starts, where it stops."""
        for number, reached in enumerate(self._reached):
            if reached < self._stop(number):
                yield reached, self._stop(number)

    def write(self, position: int, chunks: Iterable[bytes]) -> Iterator[int]:
        """Put ``chunks`` from ``position`` on, which ``missing`` gave, and beyond the piece's end if they go on; yields
        the size of each. The caller sees to it that they don't go beyond the blob's end."""
        marked = position
        try:
            for chunk in chunks:
                _write_at(self._descriptor, chunk, position)
                self._hash(position, chunk)
                position += len(chunk)
                if position - marked >= limits.MARK_BYTES:
                    self._mark(marked, position)
                    marked = position
                yield len(chunk)
        finally:
            if position > marked:
                self._mark(marked, position)

    def digest(self) -> str:
        """The sha256 of all bytes, in hexadecimal; only when nothing is missing."""
        with self._hashing:
            self._hash_to(self.blob.size)
            return self._digest.hexdigest()

    def finish(self) -> None:
        """Leave the bytes alone in the file, as an object has them. They begin to be written; ``sync`` waits for it."""
        if not self._finished:
            os.ftruncate(self._descriptor, self.blob.size)
            os.fchmod(self._descriptor, _WHOLE)
            self._finished = True
        _begin_writing(self._descriptor)

    def sync(self) -> None:
        """Wait until the file is durable."""
        os.fsync(self._descriptor)

    def discard(self) -> None:
        """Throw away what has arrived; the file is gone."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file, which stays for whoever goes on with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_journal(self) -> int:
        """Take in what the journal says as far as it can be true; where its next line goes."""
        size = os.fstat(self._descriptor).st_size
        if self._finished:
            self._reach(0, size)
        journal = os.pread(self._descriptor, limits.JOURNAL_BYTES, self.blob.size) if size > self.blob.size else b""
        at = 0
        while found := _LINE.match(journal, at):
            start, stop = int(found[1]), int(found[2])
            if not start < stop <= self.blob.size:
                break
            at = found.end()
            self._reach(start, stop)
        return self.blob.size + at

    def _mark(self, start: int, stop: int) -> None:
        with self._lock:
            self._reach(start, stop)
            line = b"%d %d\n" % (start, stop)
            if self._end + len(line) <= self.blob.size + limits.JOURNAL_BYTES:
                _write_at(self._descriptor, line, self._end)
                self._end += len(line)

    def _reach(self, start: int, stop: int) -> None:
        """The bytes from ``start`` to ``stop`` are there: of each piece that they go on with, so much more."""
        for number in range(start // limits.PIECE_BYTES, -(-stop // limits.PIECE_BYTES)):
            if start <= self._reached[number] < stop:
                self._reached[number] = min(stop, self._stop(number))

    def _stop(self, number: int) -> int:
        return min(self._starts[number] + limits.PIECE_BYTES, self.blob.size)

    def _hash(self, position: int, chunk: bytes) -> None:
        """Hash a chunk just written if all before it is hashed; else leave it to the piece that comes before."""
        if self._hashing.acquire(blocking=False):
            try:
                if position == self._hashed:
                    self._digest.update(chunk)
                    self._hashed += len(chunk)
                else:
                    self._hash_to(self._contiguous())
            finally:
                self._hashing.release()

    def _contiguous(self) -> int:
        """Up to where every byte is there and noted."""
        while self._whole < len(self._starts) and self._reached[self._whole] == self._stop(self._whole):
            self._whole += 1
        return self._reached[self._whole] if self._whole < len(self._starts) else self.blob.size

    def _hash_to(self, stop: int) -> None:
        if stop <= self._hashed:
            return
        first = self._hashed - self._hashed % mmap.ALLOCATIONGRANULARITY
        with (
            mmap.mmap(self._descriptor, stop - first, offset=first, access=mmap.ACCESS_READ) as view,
            memoryview(view) as data,
            data[self._hashed - first :] as new,
        ):
            self._digest.update(new)
        self._hashed = stop


def _opened_whole(path: Path, blob: Blob) -> int | None:
    """The file, which can't be written to, if that is because it is whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    if _is_whole(descriptor, blob):
        return descriptor
    os.close(descriptor)
    return None


def _is_whole(descriptor: int, blob: Blob) -> bool:
    status = os.fstat(descriptor)
    return status.st_size == blob.size and stat.S_IMODE(status.st_mode) == _WHOLE


def _begin_writing(descriptor: int) -> None:
    """Have the disk begin, so that a later sync waits for less; what is being written stays in memory."""
    if hasattr(os, "posix_fadvise"):  # macOS has none
        with suppress(OSError):  # only a wish
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_at(descriptor: int, chunk: bytes, position: int) -> None:
    """``os.pwrite`` may write less than it was given."""
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
