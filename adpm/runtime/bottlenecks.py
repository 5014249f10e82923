"""Bottlenecks at one sub-layer under a composition: the general form, and the sum form, which is cheaper.

``methods/bottleneck.py`` has the formulas of one adapter: from h, r and the norm N to h'. In a chain the next adapter
gets h' as its h. A fork gives each branch its rows or positions of h and r and joins what they make of them:

* an adapter is what it is alone; a branch without one keeps h;
* a chain or fork in a fork gets the x of the fork's first adapter as its h, as in the peer;
* under rows every branch, whatever it is, is what it is alone;
* fuse: x, query and s are those of its last adapter; a chain gets that x as its h (``methods/fusion.py``).

Source: ``adapters`` 1.3.0, ``methods/adapter_layer_base.py``, ``methods/bottleneck.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from adpm.errors import CompositionError
from adpm.runtime.division import Division
from adpm.runtime.grouped import GroupedBottlenecks
from adpm.runtime.methods.bottleneck import BottleneckPart, Norm
from adpm.runtime.methods.fusion import FusionPart
from adpm.runtime.tree import Chain, Fork, Leaf, Node, last_name, leaves_of

__all__ = ["Bottlenecks", "Fusions", "RunTree", "check_norms", "sum_form"]

Bottlenecks = Chain[BottleneckPart]
Fusions = Mapping[tuple[str, ...], FusionPart]  # at one place, by the names of the adapters that they fuse
Change = Callable[[Tensor], Tensor]
Bare = Callable[[Tensor, Tensor], Tensor]  # (h, r) to what the model itself makes of them


class _State(NamedTuple):
    """h, the site's own h, and r, of the rows at hand."""

    hidden: Tensor
    first: Tensor
    residual: Tensor | None


class RunTree:
    """The general form: h' from h and r.

    ``bare`` is what a branch without an adapter leaves where the model's own norm and residual do not follow.
    """

    def __init__(self, tree: Bottlenecks, fusions: Fusions, norm: Norm | None, bare: Bare | None = None) -> None:
        self.tree = tree
        self.bare = bare
        self.norm = norm
        self.fusions: dict[int, FusionPart] = {}
        self.divisions: dict[int, Division] = {}
        self._prepare(tree, fusions)

    def _prepare(self, node: Node[BottleneckPart] | None, fusions: Fusions) -> None:
        if isinstance(node, Fork):
            if node.kind == "fuse":
                self.fusions[id(node)] = fusion_of(node, fusions)
            else:
                self.divisions[id(node)] = Division(node.block)
        if node is not None and not isinstance(node, Leaf):
            for child in node.items if isinstance(node, Chain) else node.branches:
                self._prepare(child, fusions)

    def __call__(self, hidden: Tensor, residual: Tensor | None) -> Tensor:
        out, last = self._chain(self.tree, _State(hidden, hidden, residual))
        return out + hidden if last is not None and last.config.is_parallel else out

    def _chain(self, chain: Bottlenecks, state: _State) -> tuple[Tensor, BottleneckPart | None]:
        last: BottleneckPart | None = None
        for item in chain.items:
            out, last = self._node(item, state)
            state = state._replace(hidden=out)
        return state.hidden, last

    def _node(self, node: Node[BottleneckPart], state: _State) -> tuple[Tensor, BottleneckPart | None]:
        if isinstance(node, Leaf):
            part = node.part
            x, skip = part.enter(state.hidden, state.residual, self.norm)
            return part.change(x) if part.config.is_parallel else part.apply(x, skip), part
        if isinstance(node, Chain):
            return self._chain(node, state)
        return self._fuse(node, state) if node.kind == "fuse" else self._fork(node, state)

    def _fork(self, fork: Fork[BottleneckPart], state: _State) -> tuple[Tensor, BottleneckPart | None]:
        division = self.divisions[id(fork)]
        first = next(leaves_of(fork)).part
        bare = self.bare if state.hidden is state.first else None
        pieces: list[tuple[Tensor, ...]] = [
            (None,) * division.count if value is None else division.divide(value)  # type: ignore[misc]  # r may lack
            for value in state
        ]
        outs: list[Tensor] = []
        lasts: list[BottleneckPart | None] = []
        for branch, hidden, own, residual in zip(fork.branches, *pieces, strict=True):
            here = _State(hidden, own, residual)
            if branch is not None and not isinstance(branch, Leaf) and fork.kind != "rows":
                here = here._replace(hidden=first.enter(hidden, residual, self.norm)[0])
            if branch is not None:
                out, last = self._node(branch, here)
            else:
                out, last = hidden if bare is None or residual is None else bare(hidden, residual), None
            outs.append(out)
            lasts.append(last)
        parallel = {last is not None and last.config.is_parallel for last in lasts}
        if parallel == {False}:
            return division.join(outs), None
        if parallel == {True}:
            return division.join(outs), lasts[-1]
        settled = [
            out + own if last is not None and last.config.is_parallel else out
            for out, own, last in zip(outs, pieces[1], lasts, strict=True)
        ]
        return division.join(settled), None

    def _fuse(self, fork: Fork[BottleneckPart], state: _State) -> tuple[Tensor, BottleneckPart]:
        fusion = self.fusions[id(fork)]
        last = list(leaves_of(fork))[-1].part
        x, skip = last.enter(state.hidden, state.residual, self.norm)
        query = state.hidden if fusion.config.query_before_ln and not last.config.is_parallel else x
        plain = [branch.part for branch in fork.branches if isinstance(branch, Leaf)]
        if len(plain) == sum(branch is not None for branch in fork.branches):
            return fusion.mix(query, x, plain, skip), last
        inner = state._replace(hidden=x)
        raised = [self._raised(branch, inner) for branch in fork.branches if branch is not None]
        return fusion.weigh(query, raised, skip), last

    def _raised(self, node: Node[BottleneckPart], state: _State) -> Tensor:
        """What a branch of a fusion has to offer: the change of its last adapter."""
        if isinstance(node, Leaf):
            return node.part.raised(state.hidden)
        items = node.items if isinstance(node, Chain) else ()
        before, last = items[:-1], items[-1]
        if not isinstance(last, Leaf):
            raise TypeError("refused before")
        if before:
            state = state._replace(hidden=self._chain(Chain(before), state)[0])
        return last.part.raised(last.part.enter(state.hidden, state.residual, self.norm)[0])


def fusion_of(fork: Fork[BottleneckPart], fusions: Fusions) -> FusionPart:
    """A fuse's weights; ``fusion-missing`` without, ``composition-unsupported`` for branches that are no adapters."""
    names = tuple(last_name(part) for part in fork.block.parts if part is not None)
    for branch in fork.branches:
        if isinstance(branch, Fork) or (isinstance(branch, Chain) and not isinstance(branch.items[-1], Leaf)):
            raise CompositionError(
                "composition-unsupported",
                f"{fork.block} fuses what is no adapter",
                hint="fuse adapters, or stacks that end with an adapter",
            )
    found = fusions.get(names)
    if found is None:
        raise CompositionError(
            "fusion-missing",
            f"nothing says how to weigh {', '.join(names)} in {fork.block}",
            cause="AdapterFusion has weights of its own, and there are none for these adapters, in this order, here",
            hint=f"read_fusion() a fusion of them, or add_fusion({list(names)}) and train it",
        )
    return found


def _last_parts(node: Node[BottleneckPart]) -> list[BottleneckPart]:
    """The adapters that may come last, of which one decides what follows."""
    if isinstance(node, Leaf):
        return [node.part]
    if isinstance(node, Chain):
        return _last_parts(node.items[-1])
    if node.kind == "fuse":
        return [list(leaves_of(node))[-1].part]
    return [part for branch in node.branches if branch is not None for part in _last_parts(branch)]


class SumFork:
    """What a fork of single adapters adds to h + r, from N(h + r)."""

    def __init__(self, fork: Fork[BottleneckPart]) -> None:
        self.division = Division(fork.block)
        self.parts = tuple(branch.part if isinstance(branch, Leaf) else _alone(branch) for branch in fork.branches)
        together = self.division.kind in ("rows", "batch", "parallel") and GroupedBottlenecks.fits(self.parts)
        self.grouped = GroupedBottlenecks(self.division, self.parts) if together else None

    def __call__(self, x: Tensor) -> Tensor:
        layout = None if self.grouped is None else self.grouped.layout(x)
        if self.grouped is not None and layout is not None:
            return self.grouped(layout, x, torch.zeros_like(x))
        pieces = self.division.divide(x)
        changes = [
            torch.zeros_like(piece) if part is None else part.change(piece)
            for part, piece in zip(self.parts, pieces, strict=True)
        ]
        return self.division.join(changes)


class SumFuse:
    """The same of a fusion of single adapters."""

    def __init__(self, fork: Fork[BottleneckPart], fusions: Fusions) -> None:
        self.fusion = fusion_of(fork, fusions)
        self.parts = [branch.part for branch in fork.branches if isinstance(branch, Leaf)]

    def __call__(self, x: Tensor) -> Tensor:
        return self.fusion.mix(x, x, self.parts, None)


def _alone(branch: Node[BottleneckPart] | None) -> BottleneckPart | None:
    """The only adapter of a chain, None for none."""
    if isinstance(branch, Chain) and len(branch.items) == 1 and isinstance(branch.items[0], Leaf):
        return branch.items[0].part
    return None


def sum_form(tree: Bottlenecks, fusions: Fusions) -> tuple[Change | SumFork, ...] | None:
    """What each item of the chain adds to h + r, given N(h + r); None where that is not how it acts."""
    out: list[Change | SumFork] = []
    for item in tree.items:
        if not all(leaf.part.adds_to_sum for leaf in leaves_of(item)):
            return None
        if isinstance(item, Leaf):
            out.append(item.part.change)
        elif item.kind == "fuse":
            fusion = fusion_of(item, fusions)
            flat = all(branch is None or isinstance(branch, Leaf) for branch in item.branches)
            if not flat or fusion.config.query_before_ln or fusion.config.residual_before:
                return None
            out.append(SumFuse(item, fusions))
        else:
            rows = item.kind == "rows"
            if not all(
                branch is None or isinstance(branch, Leaf) or (rows and _alone(branch) is not None)
                for branch in item.branches
            ):
                return None
            out.append(SumFork(item))
    return tuple(out)


def check_norms(tree: Bottlenecks, what: object) -> bool:
    """Whether the model's norm follows; ``composition-unsupported`` where the branches disagree on it."""
    found = {part.config.original_ln_after for part in _last_parts(tree)}
    if len(found) > 1:
        raise CompositionError(
            "composition-unsupported",
            f"{what} mixes adapters with and without original_ln_after side by side",
            cause="the model's own norm either follows for the whole batch or does not",
            hint="activate them one at a time",
        )
    return found.pop()
