"""What acts on one linear layer, norm, embedding or head of the base: the hooks for a composition's parts there.

Under a composition each is a change of the layer's input or output, so that a fork in a chain means a fork of chains:
stack(a, batch(b: 1, c: 1), d) is batch(stack(a, b, d): 1, stack(a, c, d): 1) here. Several forks in one chain can be
brought together so where they divide alike, or are averages, which all of these methods are linear in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from adpm.core.composition import Block, Rows
from adpm.errors import CompositionError
from adpm.runtime.division import Division
from adpm.runtime.grouped import GroupedLowRanks
from adpm.runtime.hooks import Act, Point
from adpm.runtime.methods.added import added, low_rank
from adpm.runtime.methods.layer import LayerPart, Seen, bias_of, product, weight_of
from adpm.runtime.methods.low_rank import LowRankPart, run_low_ranks
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.tree import Chain, Fork, Leaf, Node

__all__ = ["Parts", "layer_acts"]

Parts = tuple[LayerPart, ...]  # what one adapter has at one layer
_ROWS: Final = "adpm_rows"  # which rows of the batch a branch has: for those of its parts that watch them


def layer_acts(name: str, tree: Chain[Parts]) -> Iterator[Act]:
    """The hooks on the module called ``name``. Raises ``composition-unsupported``."""
    before = _spread(tree.items, _before, _ForkBefore)
    if before is not None:
        yield Act(Point(name, "before"), before)
    after = _spread(tree.items, _after, _ForkAfter)
    if after is not None:
        yield Act(Point(name, "after"), after)
    if isinstance(before, _ForkBefore) and isinstance(after, _ForkAfter) and before.averages:
        raise CompositionError(
            "composition-unsupported",
            f"an average of adapters that change {name}'s input and of others that change its output",
            cause="the output of each would have to be computed from an input of its own",
            hint="average adapters of one method",
        )


def _before(parts: list[LayerPart]) -> _Before | None:
    """What changes a layer's input: what follows sees the changed input only."""
    moving = [part for part in reversed(parts) if part.moves_input]
    if moving and all(part.first_moves_first for part in moving):
        moving.reverse()
    return _Before(moving) if moving else None


def _after(parts: list[LayerPart]) -> _Plain | _Layer | None:
    """What changes a layer's output; one plain LoRA has a shorter way."""
    if len(parts) == 1 and isinstance(parts[0], LowRankPart) and parts[0].is_plain:
        return _Plain(parts[0])
    acting = [
        part for part in parts if isinstance(part, ModulePart) or part.folds or type(part).after is not LayerPart.after
    ]
    return _Layer(acting) if acting else None


def _spread(
    items: Sequence[Node[Parts]],
    make: Callable[[list[LayerPart]], Any],
    fork_of: type[_ForkBefore | _ForkAfter],
) -> Any:
    """The operation of a chain, with forks outermost; None where nothing acts."""
    place = next((i for i, item in enumerate(items) if isinstance(item, Fork)), None)
    if place is None:
        return make([part for item in items if isinstance(item, Leaf) for part in item.part])
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
    branches = []
    for number, branch in enumerate(fork.branches):
        inner = () if branch is None else branch.items if isinstance(branch, Chain) else (branch,)
        after = [_matching(item, fork.block, number) for item in items[place + 1 :]]
        chain = (*items[:place], *inner, *(node for nodes in after for node in nodes))
        branches.append(_spread(chain, make, fork_of))
    return fork_of(fork.block, branches) if any(branch is not None for branch in branches) else None


def _matching(item: Node[Parts], block: Block | Rows, number: int) -> tuple[Node[Parts], ...]:
    """What of a later ``item`` of the chain acts on branch ``number`` of ``block``."""
    if not isinstance(item, Fork) or item.kind == "average" or (isinstance(block, Block) and block.kind == "average"):
        return (item,)
    if not isinstance(item.block, Block) or not isinstance(block, Block) or not _alike(item.block, block):
        raise CompositionError(
            "composition-unsupported",
            f"a stack divides the batch in two ways, as {block} and as {item.block}",
            cause="on a linear layer the second division would have to go through the first one's branches",
            hint="nest them: batch(stack(a, c): 1, stack(a, d): 1, stack(b, d): 2)",
        )
    branch = item.branches[number]
    return () if branch is None else branch.items if isinstance(branch, Chain) else (branch,)


def _alike(one: Block, two: Block) -> bool:
    return (one.kind, len(one.parts), one.weights) == (two.kind, len(two.parts), two.weights)


class _Before:
    def __init__(self, parts: Sequence[LayerPart]) -> None:
        self.parts = tuple(parts)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        x = args[0]
        for part in self.parts:
            x = part.before(x)
        return (x, *args[1:]), kwargs


class _Plain:
    """y + (scale * x A^T) B^T."""

    watches_rows = False

    def __init__(self, part: LowRankPart) -> None:
        self.part = part

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        part = self.part
        a, b = part.pair()
        return added(output, low_rank(part.dropped(args[0]), a, b, part.options.scale))


class _Layer:
    """The general case: the last whole module, then the last bias, then the other changes in the order of the stack;
    those of AdapterHub's LoRAs, which feed each other, are added at the end."""

    def __init__(self, parts: Sequence[LayerPart]) -> None:
        self.module = next((part for part in reversed(parts) if isinstance(part, ModulePart)), None)
        self.bias = next((part for part in reversed(parts) if isinstance(part, BiasPart)), None)
        changes = [part for part in parts if not isinstance(part, (ModulePart, BiasPart))]
        self.chained = tuple(part for part in changes if isinstance(part, LowRankPart) and part.options.chained)
        self.folded = tuple(part for part in changes if part.folds)
        self.changes = tuple(part for part in changes if part not in (*self.chained, *self.folded))
        self.watches_rows = any(part.watches_rows for part in self.changes)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        bias, rows = bias_of(layer), kwargs.get(_ROWS)
        if self.module is not None:
            if rows is not None:
                kwargs = {name: value for name, value in kwargs.items() if name != _ROWS}
            output = self.module.module(*args, **kwargs)
            bias = bias_of(self.module.module)
        if self.bias is not None:
            output = self.bias.after(Seen(layer, bias, args[0]), output)
            bias = self.bias["bias"]
        if self.folded:
            output = output + product(layer, args[0], _folded(self.folded, weight_of(layer)).to(args[0].dtype))
        for part in self.changes:
            output = part.after(Seen(layer, bias, args[0], rows), output)
        return run_low_ranks(self.chained, layer, bias, args[0], output) if self.chained else output


def _folded(parts: Sequence[LayerPart], own: Tensor) -> Tensor:
    """How far ``parts``, one after the other, move a layer's own weight."""
    weight = own
    for part in parts:
        weight = part.fold_output(part.fold_input(weight), None)[0]
    return weight - own


class _Fork:
    """Each branch on its own part of the layer's input or output."""

    def __init__(self, block: Block | Rows, branches: Sequence[Callable[..., Any] | None]) -> None:
        self.division = Division(block)
        self.branches: tuple[Any, ...] = tuple(branches)

    @property
    def averages(self) -> bool:
        inner = any(isinstance(branch, _Fork) and branch.averages for branch in self.branches)
        return self.division.kind == "average" or inner


class _ForkBefore(_Fork):
    """A linear layer's output of a mean is the mean of the outputs."""

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pieces = zip(self.branches, self.division.divide(args[0]), strict=True)
        outs = [x if branch is None else branch(layer, (x, *args[1:]), kwargs)[0][0] for branch, x in pieces]
        return (self.division.join(outs), *args[1:]), kwargs


def _grouped(division: Division, branches: Sequence[Callable[..., Any] | None]) -> GroupedLowRanks | None:
    """All branches in one, where they are plain LoRAs on rows of their own."""
    parts = [branch.part if isinstance(branch, _Plain) else None for branch in branches]
    plain = all((branch is None) == (part is None) for branch, part in zip(branches, parts, strict=True))
    together = plain and division.kind in ("rows", "batch", "parallel") and len(parts) - parts.count(None) > 1
    return GroupedLowRanks(division, parts) if together else None


class _ForkAfter(_Fork):
    def __init__(self, block: Block | Rows, branches: Sequence[Callable[..., Any] | None]) -> None:
        super().__init__(block, branches)
        self.grouped = _grouped(self.division, branches)
        # Whether some part wants to know which rows it acts on.
        self.watches_rows = any(branch is not None and branch.watches_rows for branch in self.branches)
        if self.watches_rows and self.division.kind == "split":
            raise CompositionError(
                "composition-unsupported",
                f"{block} can't be run",
                cause="an adapter that acts from its invocation on acts on whole rows",
                hint="stack it, or give it rows of its own",
            )

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        pieces = zip(self.branches, self.division.divide(args[0]), self.division.divide(output), strict=True)
        if self.watches_rows:
            return self._watched(layer, args, kwargs, list(pieces))
        layout = None if self.grouped is None else self.grouped.layout(args[0])
        if self.grouped is not None and layout is not None:
            return self.grouped(layout, args[0], output)
        outs = [own if branch is None else branch(layer, (x, *args[1:]), kwargs, own) for branch, x, own in pieces]
        return self.division.join(outs)

    def _watched(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], pieces: list[tuple[Any, Tensor, Tensor]]
    ) -> Tensor:
        rows = kwargs.get(_ROWS)
        rows = torch.arange(len(args[0]), device=args[0].device) if rows is None else rows
        inner = [{**kwargs, _ROWS: own} for own in self.division.divide(rows)]
        outs = [
            own if branch is None else branch(layer, (x, *args[1:]), more, own)
            for (branch, x, own), more in zip(pieces, inner, strict=True)
        ]
        return self.division.join(outs)
