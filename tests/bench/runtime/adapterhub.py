"""AdapterHub's `adapters` as a contender; runs in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import adapters
from adapters.composition import BatchSplit, Fuse, Parallel, Stack

from tests.bench.runtime.base import FEW, bert, forward, same_weights, step
from tests.bench.runtime.measure import Figures, against
from tests.bench.runtime.rows import MANY, SHAPES
from tests.bench.runtime.tasks import SHORT, Tasks, directories, forward_task, growth, load_and_copy, reading, switching

__all__ = ["few", "many"]


def adapted(bare: Any) -> Any:
    model = same_weights(bare)
    adapters.init(model)
    return model


def read(model: Any, short: str, directory: Path, number: int) -> None:
    model.load_adapter(str(directory), load_as=f"{short}{number}", use_safetensors=True, with_head=False)


def activate(model: Any, composition: Any) -> None:
    model.active_adapters = composition


def few(material: Path) -> Tasks:
    bare = bert()
    full = step(same_weights(bare), *SHAPES[0])
    model = adapted(bare)
    for kind, short in (("pfeiffer", "pf"), ("lora", "lo")):
        for number, directory in enumerate(directories(material, kind, FEW)):
            read(model, short, directory, number)
    model.add_adapter_fusion(Fuse("pf0", "pf1", "pf2"))
    model.eval()
    compositions = {
        "pfeiffer": "pf0",
        "lora": "lo0",
        "stack": Stack("pf0", "pf1"),
        "fuse": Fuse("pf0", "pf1", "pf2"),
        "parallel": Parallel("pf0", "pf1", "pf2"),
    }
    acting = partial(activate, model)
    tasks: Tasks = {"switch.few": switching(acting, [f"lo{number}" for number in range(FEW)])}
    for rows, tokens in SHAPES:
        passes = partial(forward_task, forward(bare, rows, tokens), forward(model, rows, tokens))
        turns = 1 if rows > 1 else SHORT
        for key, composition in compositions.items():
            tasks[f"{key}.B{rows}xT{tokens}"] = passes(partial(acting, composition), turns=turns)
        tasks[f"merged.B{rows}xT{tokens}"] = passes(partial(_merge, model), model.reset_adapter, turns=turns)
    for kind, short in (("pfeiffer", "pf"), ("lora", "lo")):
        mixed = BatchSplit(*(f"{short}{number}" for number in range(4)), batch_sizes=[2] * 4)
        rows, tokens = SHAPES[0]
        passes = partial(forward_task, forward(bare, rows, tokens), forward(model, rows, tokens))
        tasks[f"mixed.{kind}"] = passes(partial(acting, mixed))
        tasks[f"train.{kind}"] = _training(bare, full, "seq_bn" if kind == "pfeiffer" else "lora")
        tasks[f"read.{kind}"] = partial(_read, bare, directories(material, kind, FEW))
    return tasks


def many(material: Path) -> Tasks:
    bare = bert()
    model = adapted(bare)
    found = growth(partial(read, model, "lo"), directories(material, "lora", MANY))
    model.eval()
    names = [f"lo{number}" for number in range(64)]
    shape = len(names), SHAPES[0][1]
    mixed = BatchSplit(*names, batch_sizes=[1] * len(names))
    acting = partial(activate, model)
    spread = [f"lo{number}" for number in range(0, MANY, MANY // FEW)]
    return {
        "many": lambda: found,
        "mixed.many": forward_task(forward(bare, *shape), forward(model, *shape), partial(acting, mixed)),
        "switch.many": switching(acting, spread),
    }


def _read(bare: Any, places: list[Path]) -> Figures:
    return load_and_copy(places, *reading(partial(read, adapted(bare), "x"), places))


def _merge(model: Any) -> None:
    activate(model, "lo0")
    model.merge_adapter("lo0")


def _training(bare: Any, full: Callable[[], object], config: str) -> Callable[[], Figures]:
    model = adapted(bare)
    model.add_adapter("x", config=config)
    model.train_adapter("x")
    return partial(against, full, step(model, *SHAPES[0]))
