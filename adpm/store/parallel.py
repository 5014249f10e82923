"""A few threads over a list: ``concurrent.futures`` would do, but costs more to import than a whole no-op install."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

__all__ = ["in_parallel"]

T = TypeVar("T")


def in_parallel(work: Callable[[T], None], items: list[T], *, threads: int) -> None:
    """Call ``work`` on every item; the first error is raised when all threads have ended."""
    if len(items) <= 1 or threads <= 1:
        for item in items:
            work(item)
        return
    queue = iter(items)  # next() on a list's iterator is atomic
    errors: list[BaseException] = []

    def run() -> None:
        try:
            for item in queue:
                if errors:
                    return
                work(item)
        except BaseException as error:  # noqa: BLE001 - it is raised again below, in the caller's thread
            errors.append(error)

    running = [Thread(target=run, daemon=True) for _ in range(min(threads, len(items)))]
    for thread in running:
        thread.start()
    try:
        for thread in running:
            thread.join()
    except BaseException as interruption:
        errors.append(interruption)  # no thread begins another item
        raise
    if errors:
        raise errors[0]
