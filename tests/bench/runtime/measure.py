"""Taking the time, and the memory, of one thing: wall time and CPU time side by side."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["Figures", "against", "memory", "timed"]

Figures = dict[str, float]  # of one round: what was measured by its name, times in seconds


def timed(call: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """Seconds of wall time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return time.perf_counter() - wall, time.process_time() - cpu


def against(bare: Callable[[], object], call: Callable[[], object], turns: int = 1) -> Figures:
    """The ratio of ``call`` to ``bare``, in turns of bare, call, call, bare: so a machine that slows down evenly, or
    caches that warm up, favour neither."""
    totals = {bare: [0.0, 0.0], call: [0.0, 0.0]}
    for _ in range(turns):
        for one in (bare, call, call, bare):
            for place, seconds in enumerate(timed(one)):
                totals[one][place] += seconds
    (bare_wall, bare_cpu), (wall, cpu) = totals[bare], totals[call]
    count = 2 * turns
    return {"wall": wall / bare_wall, "cpu": cpu / bare_cpu, "seconds": wall / count, "bare": bare_wall / count}


def memory() -> Mapping[str, int]:
    """Bytes that this process holds: ``resident``, and of them ``own``, which no file backs."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {name.rstrip(":"): int(size) * 1024 for name, size, *_ in map(str.split, lines)}
    return {"resident": sizes["Rss"], "own": sizes["Anonymous"]}
