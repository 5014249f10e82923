"""What all contenders measure alike, given what is their own."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from safetensors.torch import load_file

from tests.bench.runtime.measure import Figures, against, memory, timed

__all__ = ["SHORT", "Tasks", "directories", "forward_task", "growth", "load_and_copy", "reading", "switching"]

Tasks = dict[str, Callable[[], Figures]]
SHORT: Final = 3  # turns of a short pass
_SWITCHES: Final = 100


def forward_task(
    bare: Callable[[], object],
    run: Callable[[], object],
    begin: Callable[[], object],
    end: Callable[[], object] = lambda: None,
    turns: int = 1,
) -> Callable[[], Figures]:
    """Passes while something acts, beside bare ones; ``begin`` and ``end`` are not part of the time."""

    def task() -> Figures:
        begin()
        try:
            run()
            bare()
            return against(bare, run, turns)
        finally:
            end()

    return task


def reading(read: Callable[[Path, int], object], places: Sequence[Path]) -> tuple[float, float, list[float]]:
    """Seconds of wall time and of CPU time of reading all of ``places``, and of each one."""
    each: list[float] = []
    gc.collect()  # or what others left is collected in this time

    def all_of_them() -> None:
        for number, directory in enumerate(places):
            began = time.perf_counter()
            read(directory, number)
            each.append(time.perf_counter() - began)

    return *timed(all_of_them), each


def growth(read: Callable[[Path, int], object], places: Sequence[Path]) -> Figures:
    """What reading many costs as there are more, and the memory that they take, to the bytes of their weights."""
    before = memory()
    wall, cpu, each = reading(read, places)
    after = memory()
    size = _size_of(places)
    return {
        "wall_ms": wall * 1e3,
        "cpu_ms": cpu * 1e3,
        "first_ms": each[0] * 1e3,
        "last_ms": each[-1] * 1e3,
        "growth": statistics.median(each[-10:]) / each[0],
        **{kind: (after[kind] - before[kind]) / size for kind in before},
    }


def directories(material: Path, kind: str, count: int) -> list[Path]:
    """The first ``count`` adapters of a kind."""
    return [material / kind / str(number) for number in range(count)]


def load_and_copy(
    places: Sequence[Path],
    wall: float,
    cpu: float,
    each: Sequence[float],
    more: tuple[float, float] = (0.0, 0.0),
) -> Figures:
    """Times of reading ``places`` beside the least that it takes: safetensors' ``load_file`` and a copy of every
    tensor, and ``more`` seconds of wall and of CPU time."""
    paths = _weights(places)
    gc.collect()
    least = timed(lambda: [tensor.clone() for path in paths for tensor in load_file(path).values()])
    least_wall, least_cpu = least[0] + more[0], least[1] + more[1]
    singles = {"first_ms": each[0] * 1e3, "last_ms": each[-1] * 1e3} if each else {}
    return {
        "wall": wall / least_wall,
        "cpu": cpu / least_cpu,
        "wall_ms": wall * 1e3,
        "cpu_ms": cpu * 1e3,
        "least_ms": least_wall * 1e3,
        **singles,
    }


def _weights(places: Sequence[Path]) -> list[Path]:
    return [path for place in places for path in place.glob("*.safetensors")]


def _size_of(places: Sequence[Path]) -> int:
    """The bytes of the weights."""
    return sum(path.stat().st_size for path in _weights(places))


def switching(activate: Callable[[str], object], names: Sequence[str]) -> Callable[[], Figures]:
    """Milliseconds for making another adapter the active one; each has been active before."""

    def task() -> Figures:
        for name in names:
            activate(name)
        turns = list(itertools.islice(itertools.cycle(names), _SWITCHES))
        wall, cpu = timed(lambda: [activate(name) for name in turns])
        return {"wall_ms": wall * 1e3 / len(turns), "cpu_ms": cpu * 1e3 / len(turns)}

    return task
