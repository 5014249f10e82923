"""What is measured: the rows of the table, which figure of a task each shows, and what adpm is to reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CONTENDERS", "MANY", "ROWS", "SHAPES", "TASKS", "Row", "Task"]

CONTENDERS: Final = ("adpm", "adapters", "peft")
MANY: Final = 500  # adapters that serve a mixed batch
SHAPES: Final = ((8, 32), (1, 16))  # rows x tokens
ADAPTERS = frozenset({"adpm", "adapters"})
PEFT = frozenset({"adpm", "peft"})
ALL = frozenset(CONTENDERS)
OURS = frozenset({"adpm"})


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker does when it is told ``key``. ``who`` can do it; ``worker``: the one with few adapters loaded, or
    the one with many; ``every``: in which rounds."""

    key: str
    who: frozenset[str]
    worker: Literal["few", "many"] = "few"
    every: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: ``figure`` of ``task``, with ``digits`` behind the point. ``wall`` has ``cpu`` beside it.

    ``unit``: "x" for ratios, "ms" for times. ``target``: adpm's at most, None where the row only informs.
    ``readme``: whether README's table has it.
    """

    title: str
    task: str
    figure: str
    unit: Literal["x", "ms"]
    target: float | None = None
    digits: int = 2
    readme: bool = False


def _shape(rows: int, tokens: int) -> str:
    return f"B{rows}xT{tokens}"


_FORWARDS: Final = (
    ("forward, one Pfeiffer (reduction 16)", "pfeiffer", ADAPTERS, (1.02, 1.025)),
    ("forward, LoRA r=8 on q and v", "lora", ALL, (1.02, 1.03)),
    ("forward, merged LoRA", "merged", ALL, (1.0, 1.0)),
    ("forward, stack of 2 Pfeiffers", "stack", ADAPTERS, (1.04, 1.05)),
    ("forward, fuse of 3 (AdapterFusion)", "fuse", ADAPTERS, (1.15, 1.17)),
    ("forward, parallel of 3 Pfeiffers", "parallel", ADAPTERS, (2.85, 1.55)),
    ("forward, the bare model with 3 times the rows", "thrice", OURS, (None, None)),
)

TASKS: Final = (
    Task("read.pfeiffer", ADAPTERS),
    Task("read.lora", ALL),
    Task("load.pfeiffer", OURS),
    Task("load.lora", OURS),
    Task("switch.few", ALL),
    Task("switch.many", ALL, "many"),
    *(Task(f"{key}.{_shape(*shape)}", who) for _, key, who, _ in _FORWARDS for shape in SHAPES),
    Task("mixed.pfeiffer", ADAPTERS),
    Task("mixed.lora", ALL),
    Task("mixed.many", ALL, "many", every=4),
    Task("train.pfeiffer", ADAPTERS, every=2),
    Task("train.lora", ALL, every=2),
    Task("activations.pfeiffer", OURS, every=2),
    Task("activations.lora", OURS, every=2),
    Task("many", ALL, "many", every=0),  # measured when the worker gets ready
)

_KINDS: Final = (("pfeiffer", "Pfeiffers"), ("lora", "LoRAs"))

ROWS: Final = (
    *(
        row
        for kind, title in _KINDS
        for row in (
            Row(f"read 20 {title}", f"read.{kind}", "wall_ms", "ms", None, 1, readme=True),
            Row(f"read 20 {title}, to `load_file` and a copy", f"read.{kind}", "wall", "x", 1.5, readme=True),
            Row(f"the first of 20 {title}", f"read.{kind}", "first_ms", "ms"),
            Row(f"the last of 20 {title}", f"read.{kind}", "last_ms", "ms"),
        )
    ),
    Row("the first of 500 LoRAs", "many", "first_ms", "ms"),
    Row("the last of 500 LoRAs", "many", "last_ms", "ms", readme=True),
    Row("the last ten of 500 LoRAs, to the first", "many", "growth", "x", 1.0),
    *(
        row
        for kind, title in _KINDS
        for row in (
            Row(f"`adpm.load` of 20 {title}, verified", f"load.{kind}", "wall_ms", "ms", None, 1),
            Row(
                f"`adpm.load` of 20 {title}, to `load_file`, a copy and sha256",
                f"load.{kind}",
                "wall",
                "x",
                1.5,
                readme=True,
            ),
        )
    ),
    Row("switch the active adapter, 20 loaded", "switch.few", "wall_ms", "ms", 0.05, 4, readme=True),
    Row("switch the active adapter, 500 loaded", "switch.many", "wall_ms", "ms", 0.05, 4, readme=True),
    *(
        Row(f"{title}, {_shape(*shape)}", f"{key}.{_shape(*shape)}", "wall", "x", target, 3, readme=target is not None)
        for title, key, _, targets in _FORWARDS
        for shape, target in zip(SHAPES, targets, strict=True)
    ),
    Row("mixed batch, 4 Pfeiffers over 8 rows", "mixed.pfeiffer", "wall", "x", 1.03, 3, readme=True),
    Row("mixed batch, 4 LoRAs over 8 rows", "mixed.lora", "wall", "x", 1.03, 3, readme=True),
    Row("mixed batch, 64 of 500 LoRAs over 64 rows", "mixed.many", "wall", "x", 1.1, 3, readme=True),
    Row("train step, Pfeiffer, to full fine-tuning", "train.pfeiffer", "wall", "x", 0.41, 3, readme=True),
    Row("train step, LoRA, to full fine-tuning", "train.lora", "wall", "x", 0.41, 3, readme=True),
    Row(
        "forward and activations' gradients alone, as far as a Pfeiffer needs",
        "activations.pfeiffer",
        "wall",
        "x",
        None,
        3,
    ),
    Row("forward and activations' gradients alone, as far as a LoRA needs", "activations.lora", "wall", "x", None, 3),
    Row("memory of 500 LoRAs, to their bytes", "many", "resident", "x", 1.05, readme=True),
    Row("of it, what no file backs", "many", "own", "x"),
)
