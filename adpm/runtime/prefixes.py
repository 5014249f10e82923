"""A composition of AdapterHub's prefixes at one attention: what stands before the keys and values of each row.

In a stack the later adapter's prefix stands first. Side by side, in ``batch``, ``rows`` and ``parallel``, the shorter
ones are filled up from the front. Source: ``adapters`` 1.3.0, ``methods/prefix_tuning.py`` (``pad_and_concat``), which
fills up with columns of the padding token's number that attention sees; so does this, but under ``rows``, where nobody
sees them. ``specs/decisions/0032-prefixes-side-by-side.md`` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from adpm.errors import CompositionError
from adpm.runtime.division import Division
from adpm.runtime.methods.attention_prefix import PrefixTuningPart
from adpm.runtime.tree import Chain, Fork, Leaf, Node

__all__ = ["Front", "Placed", "Run", "counted", "length_of", "run_of", "scores_of", "uneven_rows"]

Placed = tuple[tuple[PrefixTuningPart, int], ...]  # what one adapter has at one attention, and its place there
_FILLED: Final = 1
_HIDDEN: Final = 2
_SIDE_BY_SIDE: Final = ("batch", "rows", "parallel")


@dataclass(frozen=True, slots=True)
class Front:
    """Columns before an attention's own. ``keys``, ``values``: rows x heads x n x head size; ``kinds``: rows x n of
    0 for a prefix's own, ``_FILLED`` and ``_HIDDEN``; None where all are 0."""

    keys: Tensor
    values: Tensor
    kinds: Tensor | None = None

    @property
    def count(self) -> int:
        return self.keys.shape[2]

    def behind(self, first: Front) -> Front:
        """``first``, then this one."""
        kinds = None
        if first.kinds is not None or self.kinds is not None:
            kinds = torch.cat((first.all_kinds(), self.all_kinds()), dim=1)
        keys = torch.cat((first.keys, self.keys), dim=2)
        return Front(keys, torch.cat((first.values, self.values), dim=2), kinds)

    def all_kinds(self) -> Tensor:
        if self.kinds is not None:
            return self.kinds
        return torch.zeros(len(self.keys), self.count, dtype=torch.uint8, device=self.keys.device)

    def filled(self, count: int, kind: int, value: float) -> Front:
        """At least ``count`` columns: new ones of ``value`` before these."""
        more = count - self.count
        if more == 0:
            return self
        keys, values = (functional.pad(x, (0, 0, more, 0), value=value) for x in (self.keys, self.values))
        return Front(keys, values, functional.pad(self.all_kinds(), (more, 0), value=kind))


Run = Callable[[Tensor, Front | None], Front | None]  # the attention's input and what stands before it already


def counted(front: Front, past: int, x: Tensor) -> Tensor:
    """The causal mask that a missing one stands for, which counts columns from the prefix's beginning, as in the peer.

    Shape: rows or 1 x 1 x positions x columns.
    """
    length = x.shape[1]
    columns = torch.arange(front.count + past + length, device=x.device)
    here = torch.arange(length, device=x.device)[:, None]
    if front.kinds is None:
        return (columns <= here)[None, None]
    begin = (front.kinds == _HIDDEN).sum(dim=1)[:, None, None, None]
    return columns <= here + begin


def scores_of(front: Front, own: float, filled: float, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of ``front``'s columns; None for nothing. Shape: rows x 1 x 1 x n."""
    if front.kinds is None and own == 0:
        return None
    kinds = front.all_kinds()
    lowest = torch.finfo(dtype).min
    scores = torch.full(kinds.shape, own, dtype=dtype, device=kinds.device)
    scores = scores.masked_fill(kinds == _FILLED, max(filled, lowest)).masked_fill(kinds == _HIDDEN, lowest)
    return scores[:, None, None, :]


def run_of(node: Node[Placed], filling: float) -> Run:
    """The operation of ``node``; ``filling``: what shorter prefixes are filled up with.

    Raises ``CompositionError`` (``composition-unsupported``).
    """
    if isinstance(node, Leaf):
        return _Own(node.part)
    if isinstance(node, Chain):
        return _Stack(tuple(run_of(item, filling) for item in node.items))
    if node.kind not in _SIDE_BY_SIDE:
        raise CompositionError(
            "composition-unsupported",
            f"{node.block} can't be run",
            cause="a prefix has no position in the text and no output of its own, so that there is nothing to divide",
            hint=f"put prefixes into a stack, {', '.join(_SIDE_BY_SIDE)}, or average their weights: combine()",
        )
    return _SideBySide(node, filling)


def length_of(node: Node[Placed] | None) -> int:
    """How many columns ``node`` puts before the keys."""
    if node is None:
        return 0
    if isinstance(node, Leaf):
        return sum(part.config.prefix_length for part, _ in node.part)
    if isinstance(node, Chain):
        return sum(map(length_of, node.items))
    return max(map(length_of, node.branches))


def uneven_rows(node: Node[Placed] | None) -> bool:
    """Whether some rows have longer prefixes than others under ``rows``."""
    if isinstance(node, Chain):
        return any(map(uneven_rows, node.items))
    return isinstance(node, Fork) and node.kind == "rows" and len(set(map(length_of, node.branches))) > 1


class _Own:
    def __init__(self, placed: Placed) -> None:
        self.placed = placed

    def __call__(self, x: Tensor, front: Front | None) -> Front | None:
        for part, place in self.placed:
            own = Front(*part.prefix(place, x))
            front = own if front is None else front.behind(own)
        return front


class _Stack:
    def __init__(self, runs: tuple[Run, ...]) -> None:
        self.runs = runs

    def __call__(self, x: Tensor, front: Front | None) -> Front | None:
        for run in self.runs:
            front = run(x, front)
        return front


class _SideBySide:
    def __init__(self, fork: Fork[Placed], filling: float) -> None:
        self.division = Division(fork.block)
        self.runs = tuple(None if branch is None else run_of(branch, filling) for branch in fork.branches)
        self.kind = _HIDDEN if fork.kind == "rows" else _FILLED
        self.filling = filling

    def __call__(self, x: Tensor, front: Front | None) -> Front | None:
        rows = self.division.divide(x)
        before = (None,) * len(rows) if front is None else self._divided(front)
        fronts = [
            own if run is None else run(piece, own) for run, piece, own in zip(self.runs, rows, before, strict=True)
        ]
        like = next(found for found in fronts if found is not None)
        count = max(0 if found is None else found.count for found in fronts)
        full = [
            (_none(like, len(piece)) if found is None else found).filled(count, self.kind, self.filling)
            for found, piece in zip(fronts, rows, strict=True)
        ]
        join, kinds = self.division.join, None
        if any(found.kinds is not None for found in full):
            kinds = join([found.all_kinds() for found in full])
        return Front(join([found.keys for found in full]), join([found.values for found in full]), kinds)

    def _divided(self, front: Front) -> tuple[Front, ...]:
        divide = self.division.divide
        kinds = (None,) * self.division.count if front.kinds is None else divide(front.kinds)
        return tuple(map(Front, divide(front.keys), divide(front.values), kinds))


def _none(like: Front, rows: int) -> Front:
    shape = (rows, like.keys.shape[1], 0, like.keys.shape[3])
    return Front(like.keys.new_zeros(shape), like.values.new_zeros(shape))
