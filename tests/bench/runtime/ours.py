"""adpm as a contender."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

import adpm
from adpm.store.store import Store
from tests.bench.runtime.base import FEW, LOWEST, bert, forward, gradients, same_weights, step
from tests.bench.runtime.measure import Figures, against, timed
from tests.bench.runtime.rows import MANY, SHAPES
from tests.bench.runtime.tasks import SHORT, Tasks, directories, forward_task, growth, load_and_copy, reading, switching

__all__ = ["few", "many"]


def few(material: Path) -> Tasks:
    bare = bert()
    full = step(same_weights(bare), *SHAPES[0])
    model = same_weights(bare)
    handle = adpm.attach(model)
    for kind, short in (("pfeiffer", "pf"), ("lora", "lo")):
        for number, directory in enumerate(directories(material, kind, FEW)):
            handle.read(directory, name=f"{short}{number}")
    handle.add_fusion(["pf0", "pf1", "pf2"])
    for parameter in handle.fusions.parameters():
        parameter.data.normal_(std=0.02)
    compositions = {
        "pfeiffer": "pf0",
        "lora": "lo0",
        "stack": "stack(pf0, pf1)",
        "fuse": "fuse(pf0, pf1, pf2)",
        "parallel": "parallel(pf0, pf1, pf2)",
    }
    tasks: Tasks = {"switch.few": switching(handle.activate, [f"lo{number}" for number in range(FEW)])}
    for rows, tokens in SHAPES:
        passes = partial(forward_task, forward(bare, rows, tokens), forward(model, rows, tokens))
        turns = 1 if rows > 1 else SHORT
        thrice = forward(bare, 3 * rows, tokens)
        tasks[f"thrice.B{rows}xT{tokens}"] = forward_task(
            forward(bare, rows, tokens), thrice, lambda: None, turns=turns
        )
        for key, composition in compositions.items():
            tasks[f"{key}.B{rows}xT{tokens}"] = passes(partial(handle.activate, composition), turns=turns)
        tasks[f"merged.B{rows}xT{tokens}"] = passes(partial(handle.merge, "lo0"), handle.unmerge, turns=turns)
    for kind, short in (("pfeiffer", "pf"), ("lora", "lo")):
        mixed = f"batch({', '.join(f'{short}{number}: 2' for number in range(4))})"
        rows, tokens = SHAPES[0]
        passes = partial(forward_task, forward(bare, rows, tokens), forward(model, rows, tokens))
        tasks[f"mixed.{kind}"] = passes(partial(handle.activate, mixed))
        tasks[f"train.{kind}"] = _training(bare, full, kind)
        tasks[f"activations.{kind}"] = partial(against, full, gradients(same_weights(bare), *SHAPES[0], LOWEST[kind]))
    for kind, files in (("pfeiffer", "pfeiffer"), ("lora", "peft")):
        tasks[f"read.{kind}"] = partial(_read, same_weights(bare), directories(material, files, FEW))
        project = material / "project" / files
        tasks[f"load.{kind}"] = partial(_load, same_weights(bare), project, directories(material, files, FEW))
    return tasks


def many(material: Path) -> Tasks:
    bare = bert()
    model = same_weights(bare)
    handle = adpm.attach(model)
    found = growth(
        lambda directory, number: handle.read(directory, name=f"lo{number}"), directories(material, "peft", MANY)
    )
    rows = [f"lo{number}" for number in range(64)]
    shape = len(rows), SHAPES[0][1]
    mixed = forward_task(forward(bare, *shape), forward(model, *shape), partial(handle.activate, rows=rows))
    names = [f"lo{number}" for number in range(0, MANY, MANY // FEW)]
    return {"many": lambda: found, "mixed.many": mixed, "switch.many": switching(handle.activate, names)}


def _read(model: nn.Module, places: list[Path]) -> Figures:
    handle = adpm.attach(model)
    wall, cpu, each = reading(lambda directory, number: handle.read(directory, name=f"x{number}"), places)
    handle.unload()
    return load_and_copy(places, wall, cpu, each)


def _load(model: Any, project: Path, places: list[Path]) -> Figures:
    store = Store(project.parents[1] / "store")
    gc.collect()
    wall, cpu = timed(lambda: adpm.load(model, project, store=store))
    model.adpm.unload()
    hashed = timed(lambda: [hashlib.sha256(path.read_bytes()) for place in places for path in place.iterdir()])
    return load_and_copy(places, wall, cpu, [], hashed)


def _training(bare: Any, full: Callable[[], object], kind: str) -> Callable[[], Figures]:
    model = same_weights(bare)
    handle = adpm.attach(model)
    handle.add("x", kind)
    handle.train("x")
    return partial(against, full, step(model, *SHAPES[0]))
