"""Which costs grow with what, in adpm: `python -m tests.bench.runtime.scaling [FILE.json]`.

Three sweeps, each with LoRA r=8 on q and v on a BERT with random weights: 1 to 1,000 adapters, 6 to 48 layers, 128 to
4,096 hidden. Writes the JSON, a table (`.md`) and a plot (`.svg`) beside it.

    read     one adapter more, its files in the page cache       switch   another active adapter
    hooks    what one LoRA adds to a pass of 8 x 32 tokens, as CPU time (turns of bare, adapted, adapted, bare)
    mixed    the same of 64 rows of 4 tokens that follow as many adapters as there are, at most 64
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import adpm
from tests.bench.runtime.base import bert, forward, same_weights
from tests.bench.runtime.plot import Panel, plot
from tests.bench.runtime.report import RESULT
from tests.bench.runtime.tasks import forward_task, switching

__all__ = ["Point"]

OUT: Final = RESULT.with_name("scaling.json")
_SMALL: Final[dict[str, int]] = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
_VOCABULARY: Final = 1000
_SWEEPS: Final[dict[str, tuple[tuple[int, ...], dict[str, int]]]] = {
    "adapters": ((1, 10, 100, 1000), {**_SMALL, "num_hidden_layers": 12}),
    "layers": ((6, 12, 24, 48), _SMALL),
    "hidden": ((128, 256, 512, 1024, 2048, 4096), {"num_hidden_layers": 2}),
}
_TURNS: Final = 7
_ROWS: Final = 64
Point = dict[str, float]
COSTS: Final = {
    "read_ms": "read one more (ms)",
    "switch_us": "switch (µs)",
    "bare_ms": "bare pass (ms)",
    "hooks": "pass with one LoRA, to the bare one",
    "mixed": "mixed batch, to the bare one",
}


def sizes(sweep: str, value: int) -> tuple[dict[str, int], int]:
    """The model's sizes at one point of a sweep, and how many adapters it gets."""
    model = {**_SWEEPS[sweep][1], "vocab_size": _VOCABULARY}
    if sweep == "layers":
        model["num_hidden_layers"] = value
    if sweep == "hidden":
        model |= {"hidden_size": value, "intermediate_size": 4 * value, "num_attention_heads": max(2, value // 64)}
    return model, value if sweep == "adapters" else 20


def measure(sweep: str, value: int, work: Path) -> Point:
    """One point: every cost, in milliseconds, microseconds and ratios of CPU time."""
    model_sizes, count = sizes(sweep, value)
    bare = bert(**model_sizes)
    model = same_weights(bare)
    handle = adpm.attach(model)
    saved = _saved(handle, work / f"{sweep}-{value}")
    handle.read(saved, name="warm")
    handle.remove("warm")
    read: list[float] = []
    gc.collect()
    for number in range(count):
        began = time.process_time()
        handle.read(saved, name=f"x{number}")
        read.append(time.process_time() - began)
    names = [f"x{number}" for number in range(count)]
    switched = switching(handle.activate, names[-20:])()
    one = _ratio(bare, model, (8, 32), partial(handle.activate, names[-1]))
    rows = [names[number % count] for number in range(_ROWS)]
    mixed = _ratio(bare, model, (_ROWS, 4), partial(handle.activate, rows=rows))
    return {
        "read_ms": statistics.median(read[-10:]) * 1e3,
        "switch_us": switched["cpu_ms"] * 1e3,
        "bare_ms": one[1] * 1e3,
        "hooks": one[0],
        "mixed": mixed[0],
    }


def _saved(handle: Any, directory: Path) -> Path:
    """A LoRA's files; all adapters are read from them, each through a map of its own."""
    handle.add("saved", "peft_lora", target_modules=["query", "value"])
    for parameter in handle.adapters["saved"].parameters():
        parameter.data.normal_(std=0.02)
    handle.save("saved", directory)
    handle.remove("saved")
    return directory


def _ratio(bare: Any, model: Any, shape: tuple[int, int], begin: Any) -> tuple[float, float]:
    task = forward_task(forward(bare, *shape), forward(model, *shape), begin)
    found = [task() for _ in range(_TURNS)]
    return statistics.median(one["cpu"] for one in found), statistics.median(one["bare"] for one in found)


def table(result: dict[str, dict[str, Point]]) -> str:
    """The sweeps as Markdown."""
    lines = []
    for sweep, points in result.items():
        lines += [f"| {sweep} | {' | '.join(COSTS.values())} |", "|---" * (len(COSTS) + 1) + "|"]
        for value, point in points.items():
            lines.append(f"| {value} | {' | '.join(f'{point[cost]:.3g}' for cost in COSTS)} |")
        lines.append("")
    return "\n".join(lines)


def panels(result: dict[str, dict[str, Point]]) -> Sequence[Panel]:
    """One panel a cost and sweep."""
    return [
        Panel(f"{title}, by {sweep}", [(float(value), point[cost]) for value, point in points.items()])
        for cost, title in COSTS.items()
        for sweep, points in result.items()
    ]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    result: dict[str, dict[str, Point]] = {}
    with tempfile.TemporaryDirectory() as work:
        for sweep, (values, _) in _SWEEPS.items():
            result[sweep] = {}
            for value in values:
                result[sweep][str(value)] = measure(sweep, value, Path(work))
                print(sweep, value, result[sweep][str(value)], file=sys.stderr)
                gc.collect()
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(result), encoding="utf-8")
    out.with_suffix(".svg").write_text(plot(panels(result), columns=len(result)), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
