"""A few threads over a list: ``concurrent.futures`` would do, but costs more to import than a whole no-op install."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Final, TypeVar

__all__ = ["in_parallel"]

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.01
_BUSY: Final = 0.6  # of one core: Python runs on one at a time, and threads that fight for it only lose time


def in_parallel(work: Callable[[T], None], items: list[T], *, threads: int, first: int | None = None) -> None:
    """Call ``work`` on every item; the first error is raised when all threads have ended.

    With ``first``, so many threads begin; they become more, up to ``threads``, while they wait (for a network, a disk)
    more than they work.
    """
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

    most = min(threads, len(items))
    running: list[Thread] = []

    def start(count: int) -> None:
        for _ in range(count):
            thread = Thread(target=run, daemon=True)
            thread.start()
            running.append(thread)

    try:
        start(most if first is None else min(first, most))
        while len(running) < most and all(thread.is_alive() for thread in running):
            wall, worked = time.monotonic(), time.process_time()
            running[0].join(_LOOK_SECONDS)
            if time.process_time() - worked < _BUSY * (time.monotonic() - wall):
                start(min(len(running), most - len(running)))
        for thread in running:
            thread.join()
    except BaseException as interruption:
        errors.append(interruption)  # no thread begins another item
        raise
    if errors:
        raise errors[0]
