"""Fetching blobs into the store, many at once: small ones whole, large ones so that they survive the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock

from adpm import limits
from adpm.core.events import Fetched, Listener
from adpm.core.lock import LockedPackage
from adpm.core.release import Blob
from adpm.core.settings import connections
from adpm.net.body import RangesIgnoredError
from adpm.registry.port import Registry
from adpm.store.parallel import in_parallel
from adpm.store.partial import Partial
from adpm.store.put import Batch, mismatch

__all__ = ["Missing", "download"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A blob that is not in the store, and which file of which package it is."""

    package: LockedPackage
    path: str
    blob: Blob

    def event(self, size: int, *, done: bool = False, resumed: bool = False) -> Fetched:
        return Fetched(size, self.package.name, self.path, self.blob.size, done, resumed)


def download(missing: list[Missing], registry_of: Callable[[str], Registry], batch: Batch, listener: Listener) -> None:
    """Put everything ``missing`` into ``batch``, over at most ``connections()`` connections; see ``specs/store.md``.

    Of a blob whose registry serves parts, several connections fetch a piece each. What has arrived of a large blob
    when an error, or the end of the process, stops the work is gone on with by the next call.
    """
    small: list[Callable[[], None]] = []
    files: list[Callable[[], None]] = []
    large: list[_Large] = []
    for one in sorted(missing, key=lambda one: -one.blob.size):  # so that no large one is begun last
        assert one.package.registry is not None  # noqa: S101 - direct sources are brought otherwise
        registry = registry_of(one.package.registry)
        if one.blob.size <= limits.SMALL_BYTES:
            small.append(partial(_fetch_whole, one, registry, batch, listener))
        elif registry.gives_files:
            files.append(partial(_fetch_file, one, registry, batch, listener))
        else:
            large.append(_Large(one, registry, batch, listener))
    jobs = files + [job for begun in large for job in begun.jobs()]
    try:
        in_parallel(lambda job: job(), jobs, threads=connections(), first=limits.CONNECTIONS_FIRST)
        in_parallel(lambda job: job(), small, threads=connections(), first=1)
    finally:
        for begun in large:
            begun.close()


def _fetch_whole(one: Missing, registry: Registry, batch: Batch, listener: Listener) -> None:
    def chunks() -> Iterator[bytes]:
        with closing(registry.blob(one.package.name, one.blob)) as arriving:
            for chunk in arriving:
                listener(one.event(len(chunk)))
                yield chunk

    batch.put(chunks(), one.blob)
    listener(one.event(0, done=True))


def _fetch_file(one: Missing, registry: Registry, batch: Batch, listener: Listener) -> None:
    there = registry.file(one.package.name, one.blob)
    if there is None or not batch.share(there, one.blob):
        _fetch_whole(one, registry, batch, listener)
        return
    listener(one.event(one.blob.size))
    listener(one.event(0, done=True))


class _Large:
    """The download of one large blob, in as many jobs as it has pieces; the last job to end completes it."""

    def __init__(self, one: Missing, registry: Registry, batch: Batch, listener: Listener) -> None:
        self._one = one
        self._registry = registry
        self._batch = batch
        self._listener = listener
        self._lock = Lock()
        self._partial: Partial | None = None
        self._pieces: list[tuple[int, int]] | None = None
        self._in_pieces = registry.gives_parts and one.blob.size > limits.PIECE_BYTES
        self._left = -(-one.blob.size // limits.PIECE_BYTES) if self._in_pieces else 1
        self._wrong = False

    def jobs(self) -> list[Callable[[], None]]:
        return [self._fetch_piece] * self._left

    def close(self) -> None:
        """Let go of what has arrived, if that is not all; only when no job runs."""
        if self._partial is not None and self._wrong:
            self._partial.discard()
        elif self._partial is not None:
            self._partial.close()

    def _fetch_piece(self) -> None:
        to, piece = self._next()
        if to is not None and piece is not None:
            with suppress(RangesIgnoredError):  # then the first piece brings all, or _complete does
                self._fetch(to, *piece)
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._complete()

    def _next(self) -> tuple[Partial | None, tuple[int, int | None] | None]:
        """A piece that nobody fetches yet. The first call opens the file."""
        with self._lock:
            if self._pieces is None:
                self._partial = self._open()
                self._pieces = [] if self._partial is None else list(self._partial.missing())
            if not self._pieces:
                return self._partial, None
            start, stop = self._pieces.pop(0)
            return self._partial, (start, stop if self._in_pieces else None)

    def _open(self) -> Partial | None:
        opened = self._batch.partial(self._one.blob)
        if opened is not None and opened.resumed:
            self._listener(self._one.event(opened.resumed, resumed=True))
        return opened

    def _fetch(self, to: Partial, start: int, stop: int | None) -> None:
        with (
            closing(self._registry.part(self._one.package.name, self._one.blob, start, stop)) as chunks,
            closing(self._batch.write(to, start, self._bounded(chunks, start))) as sizes,
        ):
            for size in sizes:
                self._listener(self._one.event(size))

    def _bounded(self, chunks: Iterator[bytes], position: int) -> Iterator[bytes]:
        for chunk in chunks:
            position += len(chunk)
            if position > self._one.blob.size:
                self._wrong = True
                raise mismatch(self._one.blob, f"more than {self._one.blob.size} bytes arrived")
            yield chunk

    def _complete(self) -> None:
        """All pieces were asked for: see that all are there, and are what they should be."""
        to, self._partial = self._partial, None
        if to is not None and not self._completed(to):
            if not to.resumed:
                raise mismatch(self._one.blob, "others arrived")
            to = self._open()  # what was left of an earlier call was wrong, and is gone: once more, from the beginning
            if to is not None and not self._completed(to):
                raise mismatch(self._one.blob, "others arrived")
        if to is None:
            _fetch_whole(self._one, self._registry, self._batch, self._listener)
        else:
            self._listener(self._one.event(0, done=True))

    def _completed(self, to: Partial) -> bool:
        """Fetch what is missing, in one stream; whether the digest is right."""
        try:
            for start, _ in list(to.missing())[:1]:
                self._fetch(to, start, None)
            missing = next(to.missing(), None)
            if missing is not None:
                raise mismatch(self._one.blob, f"{missing[0]} bytes arrived")
        except BaseException:
            to.close()
            raise
        return self._batch.complete(to)
