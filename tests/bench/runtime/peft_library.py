"""PEFT as a contender; runs in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from tests.bench.runtime.base import FEW, bert, forward, same_weights, step
from tests.bench.runtime.measure import Figures, against
from tests.bench.runtime.rows import MANY, SHAPES
from tests.bench.runtime.tasks import SHORT, Tasks, directories, forward_task, growth, load_and_copy, reading, switching

__all__ = ["few", "many"]


class Reader:
    """Reads adapters into one model, as PEFT wants it: the first one makes the model that takes the others."""

    def __init__(self, bare: Any) -> None:
        self.model = same_weights(bare)

    def __call__(self, directory: Path, number: int) -> None:
        if number == 0:
            self.model = PeftModel.from_pretrained(self.model, directory, adapter_name="lo0")
        else:
            self.model.load_adapter(directory, adapter_name=f"lo{number}")


def few(material: Path) -> Tasks:
    bare = bert()
    full = step(same_weights(bare), *SHAPES[0])
    places = directories(material, "peft", FEW)
    reader = Reader(bare)
    reading(reader, places)
    model = reader.model.eval()
    acting = model.set_adapter
    tasks: Tasks = {
        "switch.few": switching(acting, [f"lo{number}" for number in range(FEW)]),
        "read.lora": lambda: load_and_copy(places, *reading(Reader(bare), places)),
        "train.lora": _training(bare, full),
    }
    for rows, tokens in SHAPES:
        passes = partial(forward_task, forward(bare, rows, tokens), forward(model, rows, tokens))
        turns = 1 if rows > 1 else SHORT
        tasks[f"lora.B{rows}xT{tokens}"] = passes(partial(acting, "lo0"), turns=turns)
        tasks[f"merged.B{rows}xT{tokens}"] = passes(partial(_merge, model), model.unmerge_adapter, turns=turns)
    rows, tokens = SHAPES[0]
    names = [f"lo{number // 2}" for number in range(rows)]
    run = forward(model, rows, tokens, adapter_names=names)
    tasks["mixed.lora"] = forward_task(forward(bare, rows, tokens), run, lambda: None)
    return tasks


def many(material: Path) -> Tasks:
    bare = bert()
    reader = Reader(bare)
    found = growth(reader, directories(material, "peft", MANY))
    model = reader.model.eval()
    names = [f"lo{number}" for number in range(64)]
    shape = len(names), SHAPES[0][1]
    run = forward(model, *shape, adapter_names=names)
    spread = [f"lo{number}" for number in range(0, MANY, MANY // FEW)]
    return {
        "many": lambda: found,
        "mixed.many": forward_task(forward(bare, *shape), run, lambda: None),
        "switch.many": switching(model.set_adapter, spread),
    }


def _merge(model: Any) -> None:
    model.set_adapter("lo0")
    model.merge_adapter(["lo0"])


def _training(bare: Any, full: Callable[[], object]) -> Callable[[], Figures]:
    config = LoraConfig(r=8, target_modules=["query", "value"])
    model = get_peft_model(same_weights(bare), config)
    return partial(against, full, step(model, *SHAPES[0]))
