"""Where the time goes in the work whose goals are hardest: `python -m tests.bench.runtime.profile [ROUNDS]`.

First, what passes take beside the same operations written into the model by hand (``sketch.py``), whose outputs must be
adpm's: ratios to the bare model, medians of interleaved rounds. Then each piece of work is taken apart into torch's
operators beside the least that it can take:

    one Pfeiffer, 4 LoRAs     the sketch
    parallel of 3, B1xT16     the bare model with three times the rows
    train steps               forward pass and gradients of activations above the lowest adapter, without any adapter

Writes ``results/profile.md`` and prints it. A profiled pass takes longer than one that is not: compare, don't add up.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

import adpm
from tests.bench.runtime.base import LOWEST, bert, forward, gradients, same_weights, step
from tests.bench.runtime.measure import against
from tests.bench.runtime.report import RESULT
from tests.bench.runtime.rows import SHAPES
from tests.bench.runtime.sketch import sketched

_FILE: Final = RESULT.with_name("profile.md")
_ROUNDS: Final = 5
_WARM: Final = 3  # passes before: adpm stacks matrices in the second one with the same weights
_TURNS: Final = 4  # of one round of ratios
_SHOWN: Final = 8  # operators of a table; the others are one line
Times = Mapping[str, tuple[float, float]]  # operator: milliseconds of its own, calls, both of one pass


def times_of(run: Callable[[], object], rounds: int) -> Times:
    """What one pass spends in each operator, over ``rounds`` passes."""
    for _ in range(_WARM):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(rounds):
            run()
    return {
        event.key: (event.self_cpu_time_total / 1e3 / rounds, event.count / rounds) for event in seen.key_averages()
    }


def table(title: str, works: Mapping[str, Times]) -> str:
    """``works`` side by side, the operators that take longest in any of them first."""
    names = sorted({name for times in works.values() for name in times}, key=partial(_most, works), reverse=True)
    lines = [f"### {title}", "", f"| operator | {' | '.join(works)} |", "|---|" + "---|" * len(works)]
    for name in names[:_SHOWN]:
        cells = [_cell(*times.get(name, (0.0, 0.0))) for times in works.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    rest = [sum(times.get(name, (0.0, 0.0))[0] for name in names[_SHOWN:]) for times in works.values()]
    whole = [sum(own for own, _ in times.values()) for times in works.values()]
    lines.append(f"| {len(names) - _SHOWN} others | {' | '.join(f'{ms:.1f} ms' for ms in rest)} |")
    lines.append(f"| all | {' | '.join(f'{ms:.1f} ms' for ms in whole)} |")
    return "\n".join(lines) + "\n"


def _most(works: Mapping[str, Times], name: str) -> float:
    return max(times.get(name, (0.0, 0.0))[0] for times in works.values())


def _cell(own: float, calls: float) -> str:
    return f"{own:.1f} ms ({calls:.0f})" if calls else ""


def _adapted(bare: Any, composition: str, config: str, count: int) -> Any:
    model = same_weights(bare)
    handle = adpm.attach(model)
    for number in range(count):
        handle.add(f"x{number}", config)
        for parameter in handle.adapters[f"x{number}"].parameters():
            parameter.data.normal_(std=0.02)
    handle.activate(composition)
    return model


def _beside(bare: Any, rounds: int) -> str:
    """The table of ratios: the sketch, and adpm."""
    lines = ["### ratios to the bare model", "", "| work | by hand | adpm |", "|---|---|---|"]
    wide, short = SHAPES
    mixed = "batch(x0: 2, x1: 2, x2: 2, x3: 2)"
    works = [
        (title, kind, composition, count, shape)
        for title, kind, composition, count in (
            ("one Pfeiffer", "pfeiffer", "x0", 1),
            ("stack of 2 Pfeiffers", "pfeiffer", "stack(x0, x1)", 2),
            ("one LoRA", "lora", "x0", 1),
        )
        for shape in (wide, short)
    ]
    works += [("4 Pfeiffers over 8 rows", "pfeiffer", mixed, 4, wide), ("4 LoRAs over 8 rows", "lora", mixed, 4, wide)]
    for title, kind, composition, count, shape in works:
        model = _adapted(bare, composition, kind, count)
        hand = sketched(bare, kind, list(model.adpm.adapters.values()), mixed=composition == mixed)
        plain, *passes = (forward(one, *shape) for one in (bare, hand, model))
        torch.testing.assert_close(*(one().last_hidden_state for one in passes), rtol=1e-4, atol=1e-4)  # type: ignore[attr-defined]
        turns = _TURNS if shape == wide else 4 * _TURNS
        ratios = [[against(plain, one, turns)["wall"] for one in passes] for _ in range(rounds)]
        cells = [f"{statistics.median(column):.3f}" for column in zip(*ratios, strict=True)]
        lines.append(f"| {title}, B{shape[0]}xT{shape[1]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _trained(bare: Any, config: str) -> Any:
    model = same_weights(bare)
    handle = adpm.attach(model)
    handle.add("x", config)
    handle.train("x")
    return model


def tables(rounds: int) -> list[str]:
    """A table for each piece of work."""
    bare = bert()
    wide, short = SHAPES
    again = partial(times_of, rounds=rounds)
    parallel = _adapted(bare, "parallel(x0, x1, x2)", "pfeiffer", 3)
    mixed = _adapted(bare, "batch(x0: 2, x1: 2, x2: 2, x3: 2)", "lora", 4)
    single = _adapted(bare, "x0", "pfeiffer", 1)
    loras = list(mixed.adpm.adapters.values())
    plain = again(forward(bare, *wide))
    found = [
        _beside(bare, rounds),
        table(
            f"one Pfeiffer, B{wide[0]}xT{wide[1]}",
            {
                "bare": plain,
                "by hand": again(forward(sketched(bare, "pfeiffer", [single.adpm.adapters["x0"]]), *wide)),
                "adpm": again(forward(single, *wide)),
            },
        ),
        table(
            f"parallel of 3 Pfeiffers, B{short[0]}xT{short[1]}",
            {
                "bare": again(forward(bare, *short)),
                "bare, three times the rows": again(forward(bare, 3 * short[0], short[1])),
                "adpm": again(forward(parallel, *short)),
            },
        ),
        table(
            f"4 LoRAs over 8 rows, B{wide[0]}xT{wide[1]}",
            {
                "bare": plain,
                "by hand": again(forward(sketched(bare, "lora", loras, mixed=True), *wide)),
                "adpm": again(forward(mixed, *wide)),
            },
        ),
    ]
    full = again(step(same_weights(bare), *wide))
    for kind, lowest in LOWEST.items():
        floor = again(gradients(same_weights(bare), *wide, lowest))
        works = {"full fine-tuning": full, "activations alone": floor, "adpm": again(step(_trained(bare, kind), *wide))}
        found.append(table(f"train step, {kind}, B{wide[0]}xT{wide[1]}", works))
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS
    about = "Milliseconds of an operator's own, in brackets how often it is called; one pass, one thread.\n"
    text = "\n".join([about, *tables(rounds)])
    _FILE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
