"""Rows of different adapters in one product each way, and not in one for every adapter.

    y_b + (x_b A_g^T) B_g^T        LoRA, with the scale in B;             g: the adapter of row b
    U_g a(D_g x_b + d_g) + u_g     bottlenecks, with the scaling in U and u

The matrices are put on top of each other, filled up with zeros to one rank. Where all adapters have as many rows, a
batched product goes over the adapters. Else it goes over the rows, each with its adapter's matrices, which are copied
for it: so only while a row has few positions, and otherwise adapter after adapter, as ``layers.py`` and
``bottlenecks.py`` do it without this. What was stacked is kept until a weight changes. Figures: ``tests/bench``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.division import Division
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.methods.low_rank import LowRankPart
from adpm.runtime.part import Part, state_of

__all__ = ["GroupedBottlenecks", "GroupedLowRanks"]

_POSITIONS: Final = 16  # of a row, up to which copying matrices for it costs less than products one by one
P = TypeVar("P", bound=Part)


class _Layout(NamedTuple):
    """``rows``: which of the batch, in the groups' order; None for all as they are. ``back``: where each is then.
    ``ids``: for each row its adapter; None where all adapters have as many rows."""

    rows: Tensor | None
    back: Tensor | None
    ids: Tensor | None


class _Stacked(NamedTuple):
    """Matrices on top of each other; ``sources``: what they were made of, which stays alive so that the key holds."""

    key: tuple[object, ...]
    sources: tuple[Tensor, ...]
    matrices: tuple[Tensor, ...]


class _Grouped(Generic[P]):
    """``parts``: what each branch of ``division`` has; None for nothing."""

    def __init__(self, division: Division, parts: Sequence[P | None]) -> None:
        self.division = division
        self.branches = tuple(None if part is None else place for place, part in _numbered(parts))
        self.parts = tuple(part for part in parts if part is not None)
        self._layouts: dict[tuple[int, torch.device], _Layout] = {}
        self._seen: tuple[object, ...] = ()
        self._stacked: _Stacked | None = None

    def layout(self, x: Tensor) -> _Layout | None:
        """How the rows of ``x`` go together; None where adapter after adapter is the better way.

        That is in the first pass with weights as they are, for to stack them costs what it saves, while anything is
        trained, and while torch.compile traces, which would stack them in each pass.
        """
        if torch.compiler.is_compiling() or any(part.training for part in self.parts):
            return None
        key = len(x), x.device
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = self._laid_out(len(x), x.device)
        few = x.dim() < 3 or x.shape[1] <= _POSITIONS
        return layout if (layout.ids is None or few) and self._stack() else None

    def _stack(self) -> bool:
        """Whether the matrices are stacked."""
        tensors = tuple(part[slot] for part in self.parts for slot in part.names)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return False
        key = tuple(map(state_of, tensors))
        if self._stacked is not None and self._stacked.key == key:
            return True
        again = self._seen == key
        self._seen, self._stacked = key, None
        if again:
            with torch.no_grad():
                self._stacked = _Stacked(key, tensors, self.stack())
        return again

    def _laid_out(self, count: int, device: torch.device) -> _Layout:
        branches = list(zip(self.branches, self.division.rows(count), strict=True))
        rows = [row for branch, own in branches if branch is not None for row in own]
        ids = [branch for branch, own in branches if branch is not None for _ in own]
        equal = len({len(own) for _, own in branches}) == 1 and len(rows) == count
        sorted_rows = rows == list(range(count))
        back = sorted(range(count), key=rows.__getitem__) if equal and not sorted_rows else None
        return _Layout(
            None if sorted_rows else torch.tensor(rows, device=device),
            None if back is None else torch.tensor(back, device=device),
            None if equal else torch.tensor(ids, device=device),
        )

    def matrices(self, layout: _Layout) -> tuple[Tensor, ...]:
        """The stacked matrices, for each adapter or for each row."""
        if self._stacked is None:
            raise TypeError("layout() said how before")
        found = self._stacked.matrices
        return found if layout.ids is None else tuple(matrix[layout.ids] for matrix in found)

    def stack(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def take(self, layout: _Layout, x: Tensor) -> Tensor:
        """The rows of ``x`` as groups x positions x features."""
        x = x if layout.rows is None else x[layout.rows]
        groups = len(self.parts) if layout.ids is None else len(layout.ids)
        return x.reshape(groups, -1, x.shape[-1])

    def put(self, layout: _Layout, grouped: Tensor, into: Tensor) -> Tensor:
        """``into`` with these rows instead of its own."""
        if layout.rows is None:
            return grouped.view(into.shape)
        if layout.back is not None:
            return grouped.view(into.shape)[layout.back]
        return into.index_copy(0, layout.rows, grouped.view(-1, *into.shape[1:]))


def _numbered(parts: Sequence[P | None]) -> list[tuple[int, P | None]]:
    number, out = 0, []
    for part in parts:
        out.append((number, part))
        number += part is not None
    return out


class GroupedLowRanks(_Grouped[LowRankPart]):
    """Plain LoRAs on one layer."""

    def __call__(self, layout: _Layout, x: Tensor, output: Tensor) -> Tensor:
        """The layer's output; ``x`` is its input."""
        a, b = self.matrices(layout)
        inner = torch.bmm(self.take(layout, x), a)
        return self.put(layout, torch.baddbmm(self.take(layout, output), inner, b), output)

    def stack(self) -> tuple[Tensor, ...]:
        """A^T and scale B^T. Shapes: adapters x in x r, adapters x r x out."""
        pairs = [part.pair() for part in self.parts]
        rank = max(len(a) for a, _ in pairs)
        downs = [functional.pad(a, (0, 0, 0, rank - len(a))) for a, _ in pairs]
        ups = [
            functional.pad(b * part.options.scale, (0, rank - b.shape[1]))
            for (_, b), part in zip(pairs, self.parts, strict=True)
        ]
        return torch.stack(downs).mT, torch.stack(ups).mT


class GroupedBottlenecks(_Grouped[BottleneckPart]):
    """Plain bottlenecks with one activation after one sub-layer."""

    @staticmethod
    def fits(parts: Sequence[BottleneckPart | None]) -> bool:
        """Whether all ``parts`` are such."""
        there = [part for part in parts if part is not None]
        words = {part.config.non_linearity for part in there}
        return len(words) == 1 and len(there) > 1 and all(part.is_plain for part in there)

    def __call__(self, layout: _Layout, x: Tensor, into: Tensor) -> Tensor:
        """``into`` with each row's change of ``x`` instead of its own rows."""
        down, down_bias, up, up_bias = self.matrices(layout)
        activate: Callable[[Tensor], Tensor] = ACTIVATIONS[self.parts[0].config.non_linearity]
        inner = activate(torch.baddbmm(down_bias, self.take(layout, x), down))
        return self.put(layout, torch.baddbmm(up_bias, inner, up), into)

    def stack(self) -> tuple[Tensor, ...]:
        """D^T, d, U^T and u. Shapes: adapters x h x units, x 1 x units, x units x h, x 1 x h."""
        units = max(len(part["down_weight"]) for part in self.parts)
        rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for part in self.parts:
            more = units - len(part["down_weight"])
            up, bias = part["up_weight"], part["up_bias"]
            scaling = part.config.scaling
            if isinstance(scaling, str):
                up, bias = up * part["scaling"].view(-1, 1), bias * part["scaling"]
            elif scaling != 1.0:
                up, bias = up * scaling, bias * scaling
            down = functional.pad(part["down_weight"], (0, 0, 0, more))
            rows.append((down, functional.pad(part["down_bias"], (0, more)), functional.pad(up, (0, more)), bias))
        down, down_bias, up, up_bias = (torch.stack(column) for column in zip(*rows, strict=True))
        return down.mT, down_bias.unsqueeze(1), up.mT, up_bias.unsqueeze(1)
