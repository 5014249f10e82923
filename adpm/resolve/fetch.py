"""Ask the source for packages, each once, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Self, cast

from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import NotFoundError
from adpm.resolve.problem import Source

__all__ = ["Fetcher"]


class Fetcher:
    """The source with a memory and ``threads`` threads; with less than two it asks in the caller's own.

    What was asked for ahead of time and is never needed can't fail the resolution: an error comes up in ``get``.
    """

    def __init__(self, source: Source, threads: int) -> None:
        self._source = source
        self._pool = ThreadPoolExecutor(threads, "adpm-metadata") if threads > 1 else None
        self.near: dict[str, tuple[str, ...]] = {}  # names that may have been meant, of packages that no registry has
        self._asked: dict[str, Future[Sequence[Listing]]] = {}
        self._arrived: SimpleQueue[str] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, names: Iterable[str]) -> None:
        """Begin to fetch ``names`` in the background; without threads, do nothing."""
        if self._pool is None:
            return
        for name in names:
            if name not in self._asked:
                answer = self._pool.submit(self._source.candidates, PackageName(name))
                self._asked[name] = answer
                answer.add_done_callback(partial(self._arrive, name))

    def _arrive(self, name: str, _: Future[Sequence[Listing]]) -> None:
        self._arrived.put(name)

    def get(self, name: str) -> Sequence[Listing] | None:
        """The releases of ``name``; None if no registry has it. The caller remembers the answer."""
        try:
            if self._pool is None:
                return self._source.candidates(PackageName(name))
            self.ask([name])
            return self._asked[name].result()
        except NotFoundError as error:
            if error.code != "package-not-found":  # a registry that is not there says nothing about its packages
                raise
            self.near[name] = cast("tuple[str, ...]", error.values.get("near", ()))
            return None

    def arrivals(self) -> Iterator[str]:
        """Names as their answers come, in no certain order, until none that was asked for is outstanding.

        The caller may ask for more in between. An answer that is an error counts as one.
        """
        seen = 0
        while seen < len(self._asked):
            seen += 1
            yield self._arrived.get()
