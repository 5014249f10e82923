"""What acts on one linear layer, norm, embedding or head of the base: the hooks for the parts of a stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.runtime.hooks import Act, Point
from adpm.runtime.methods.layer import LayerPart, Seen, bias_of
from adpm.runtime.methods.low_rank import LowRankPart, run_low_ranks
from adpm.runtime.methods.whole import BiasPart, ModulePart

__all__ = ["after_layer", "before_layer", "layer_acts"]


def layer_acts(name: str, parts: Sequence[LayerPart]) -> Iterator[Act]:
    """What acts on the module called ``name`` for the parts of a stack, first to last."""
    before, after = before_layer(parts), after_layer(parts)
    if before is not None:
        yield Act(Point(name, "before"), before)
    if after is not None:
        yield Act(Point(name, "after"), after)


def before_layer(parts: Sequence[LayerPart]) -> _Before | None:
    """The operation before a layer, if some part changes its input: what follows sees the changed input only."""
    moving = [part for part in reversed(parts) if part.moves_input]
    if moving and all(part.first_moves_first for part in moving):
        moving.reverse()
    return _Before(moving) if moving else None


def after_layer(parts: Sequence[LayerPart]) -> _Plain | _Layer | None:
    """The operation after a layer, if some part changes its output; one plain LoRA has a shorter way."""
    if len(parts) == 1 and isinstance(parts[0], LowRankPart) and parts[0].is_plain:
        return _Plain(parts[0])
    acting = [part for part in parts if isinstance(part, ModulePart) or type(part).after is not LayerPart.after]
    return _Layer(acting) if acting else None


class _Before:
    def __init__(self, parts: Sequence[LayerPart]) -> None:
        self.parts = tuple(parts)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        x = args[0]
        for part in self.parts:
            x = part.before(x)
        return (x, *args[1:]), kwargs


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
    """The general case: the last whole module, then the last bias, then the other changes in the order of the stack;
    those of AdapterHub's LoRAs, which feed each other, are added at the end."""

    def __init__(self, parts: Sequence[LayerPart]) -> None:
        self.module = next((part for part in reversed(parts) if isinstance(part, ModulePart)), None)
        self.bias = next((part for part in reversed(parts) if isinstance(part, BiasPart)), None)
        changes = [part for part in parts if not isinstance(part, (ModulePart, BiasPart))]
        self.chained = tuple(part for part in changes if isinstance(part, LowRankPart) and part.options.chained)
        self.changes = tuple(part for part in changes if part not in self.chained)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        bias = bias_of(layer)
        if self.module is not None:
            output = self.module.module(*args, **kwargs)
            bias = bias_of(self.module.module)
        if self.bias is not None:
            output = self.bias.after(Seen(layer, bias, args[0]), output)
            bias = self.bias["bias"]
        for part in self.changes:
            output = part.after(Seen(layer, bias, args[0]), output)
        return run_low_ranks(self.chained, layer, bias, args[0], output) if self.chained else output
