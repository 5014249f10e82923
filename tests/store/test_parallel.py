"""Work in threads: all of it, as many at a time as it needs, and the first error."""

from __future__ import annotations

import threading

import pytest

from adpm.store.parallel import in_parallel


@pytest.mark.parametrize(("threads", "first"), [(1, None), (4, None), (8, 2), (100, 3)])
def test_every_item_once(threads: int, first: int | None) -> None:
    done: list[int] = []
    in_parallel(done.append, list(range(50)), threads=threads, first=first)
    assert sorted(done) == list(range(50))


def test_threads_that_wait_become_more() -> None:
    all_at_once = threading.Barrier(8, timeout=30)

    def work(_: int) -> None:
        all_at_once.wait()

    in_parallel(work, list(range(8)), threads=8, first=2)


@pytest.mark.parametrize("first", [None, 1])
def test_the_first_error_ends_it(first: int | None) -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match=r"\d"):
        in_parallel(work, list(range(1000)), threads=4, first=first)
    assert len(begun) <= 8
