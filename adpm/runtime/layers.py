"""What acts on one linear layer, norm or head of the base: low-rank changes, another bias, another module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.low_rank import LowRankPart, run_low_ranks
from adpm.runtime.methods.whole import BiasPart, ModulePart

__all__ = ["LayerPart", "after_layer"]

LayerPart = LowRankPart | FusedPart | BiasPart | ModulePart


def after_layer(parts: Sequence[LayerPart]) -> _Plain | _Layer:
    """The operation after a layer for the parts of a stack; one plain LoRA has a shorter way."""
    if len(parts) == 1 and isinstance(parts[0], LowRankPart) and parts[0].is_plain:
        return _Plain(parts[0])
    return _Layer(parts)


class _Plain:
    """y + scale * (x A^T) B^T, added in the product that makes it."""

    def __init__(self, part: LowRankPart) -> None:
        self.part = part

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        part = self.part
        a, b = part.pair()
        inner = functional.linear(part.dropped(args[0]), a)
        flat = torch.addmm(output.flatten(0, -2), inner.flatten(0, -2), b.t(), alpha=part.options.scale)
        return flat.view(output.shape)


class _Layer:
    """The general case: the last whole module, biases, then fused and low-rank changes in the stack's order."""

    def __init__(self, parts: Sequence[LayerPart]) -> None:
        self.modules = tuple(part for part in parts if isinstance(part, ModulePart))
        self.biases = tuple(part for part in parts if isinstance(part, BiasPart))
        self.changes = tuple(part for part in parts if isinstance(part, LowRankPart))
        self.fused = tuple(part for part in parts if isinstance(part, FusedPart))

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.modules:
            output = self.modules[-1].module(*args, **kwargs)
        bias: Tensor | None = getattr(layer, "bias", None)
        for part in self.biases[-1:]:
            output = part.correct(layer, output)
            bias = part["bias"]
        for change in self.fused:
            output = change.after(layer, args[0], output)
        return run_low_ranks(self.changes, layer, bias, args[0], output) if self.changes else output
