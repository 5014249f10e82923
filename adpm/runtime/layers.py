"""What acts on one linear layer, norm or head of the base: low-rank changes, another bias, another module.

Under a composition each is a change of the layer's output, so that a fork in a chain means a fork of chains:
stack(a, batch(b: 1, c: 1), d) is batch(stack(a, b, d): 1, stack(a, c, d): 1) here. Several forks in one chain can be
brought together so where they divide alike, or are averages, which all of these methods are linear in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.core.composition import Block, Rows
from adpm.errors import CompositionError
from adpm.runtime.division import Division
from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.low_rank import LowRankPart, run_low_ranks
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.tree import Chain, Fork, Leaf, Node

__all__ = ["LayerPart", "after_layer"]

LayerPart = LowRankPart | FusedPart | BiasPart | ModulePart
Parts = tuple[LayerPart, ...]  # what one adapter has at one layer


def after_layer(tree: Chain[Parts]) -> _Plain | _Layer | _Fork:
    """The operation after a layer; one plain LoRA has a shorter way. Raises ``composition-unsupported``."""
    found = _spread(tree.items)
    if found is None:
        raise TypeError("a tree has a part")
    return found


def _spread(items: Sequence[Node[Parts]]) -> _Plain | _Layer | _Fork | None:
    place = next((i for i, item in enumerate(items) if isinstance(item, Fork)), None)
    if place is None:
        parts = [part for item in items if isinstance(item, Leaf) for part in item.part]
        if not parts:
            return None
        if len(parts) == 1 and isinstance(parts[0], LowRankPart) and parts[0].is_plain:
            return _Plain(parts[0])
        return _Layer(parts)
    fork = items[place]
    if not isinstance(fork, Fork):
        raise TypeError("found as a fork")
    if fork.kind == "fuse":
        raise CompositionError(
            "composition-unsupported",
            f"{fork.block} has an adapter that changes linear layers",
            cause="AdapterFusion is defined for bottleneck adapters",
            hint=f"average({', '.join(f'{part}: 1' for part in fork.block.parts)}) takes any adapter",
        )
    operations = []
    for number, branch in enumerate(fork.branches):
        inner = () if branch is None else branch.items if isinstance(branch, Chain) else (branch,)
        after = [_matching(item, fork.block, number) for item in items[place + 1 :]]
        chain = (*items[:place], *inner, *(node for nodes in after for node in nodes))
        operations.append(_spread(chain))
    return _Fork(fork.block, operations)


def _matching(item: Node[Parts], block: Block | Rows, number: int) -> tuple[Node[Parts], ...]:
    """What of a later ``item`` of the chain acts on branch ``number`` of ``block``."""
    if not isinstance(item, Fork) or item.kind == "average" or (isinstance(block, Block) and block.kind == "average"):
        return (item,)
    other = item.block
    alike = isinstance(other, Block) and isinstance(block, Block) and other.kind == block.kind
    if not alike or len(other.parts) != len(block.parts) or other.weights != block.weights:  # type: ignore[union-attr]  # alike: both are blocks
        raise CompositionError(
            "composition-unsupported",
            f"a stack divides the batch in two ways, as {block} and as {other}",
            cause="on a linear layer the second division would have to go through the first one's branches",
            hint="nest them: batch(stack(a, c): 1, stack(a, d): 1, stack(b, d): 2)",
        )
    branch = item.branches[number]
    return () if branch is None else branch.items if isinstance(branch, Chain) else (branch,)


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
    """The general case: the last whole module, then biases, then fused and low-rank changes in the order of the stack."""

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


class _Fork:
    """Each branch on its own part of the layer's input and output."""

    def __init__(self, block: Block | Rows, branches: Sequence[_Plain | _Layer | _Fork | None]) -> None:
        self.division = Division(block)
        self.branches = tuple(branches)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        pieces = zip(self.branches, self.division.divide(args[0]), self.division.divide(output), strict=True)
        outs = [own if branch is None else branch(layer, (x, *args[1:]), kwargs, own) for branch, x, own in pieces]
        return self.division.join(outs)
