"""Which part of a tensor each branch of a composition gets, and how the branches' results become one again.

    batch     consecutive rows       split     consecutive positions      parallel  equal shares of the rows
    rows      the rows of each       average   all of it; the results are added up by their weights

Tensors are rows x positions x features; heads' may lack the positions.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from adpm.core.composition import Block, Rows
from adpm.errors import CompositionError

__all__ = ["Division"]


class Division:
    """The division that ``block`` stands for; ``divide`` and ``join`` raise ``composition-misfit`` for other sizes."""

    def __init__(self, block: Block | Rows) -> None:
        self.block = block
        self.kind = block.kind if isinstance(block, Block) else "rows"
        self.dim = 1 if self.kind == "split" else 0
        self._sizes: tuple[int, ...] | None = None
        self._order: list[int] = []
        self._shares: tuple[float, ...] = ()
        self._ends: tuple[int, ...] = ()
        if isinstance(block, Rows):
            places = {part: [i for i, other in enumerate(block.parts) if other == part] for part in block.parts}
            order = [i for rows in places.values() for i in rows]
            self._sizes = tuple(len(rows) for rows in places.values())
            self._order = [] if order == sorted(order) else order
            self._back = sorted(range(len(order)), key=order.__getitem__)
            self.count = len(places)
            self._ends = tuple(accumulate(self._sizes))[:-1]
            return
        self.count = len(block.parts)
        if self.kind in ("batch", "split"):
            self._sizes = tuple(int(weight) for weight in block.weights)
            self._ends = tuple(accumulate(self._sizes))[:-1]
        elif self.kind == "average":
            total = sum(block.weights)
            self._shares = tuple(weight / total for weight in block.weights)

    def divide(self, x: Tensor) -> tuple[Tensor, ...]:
        """What of ``x`` each branch gets, in the branches' order."""
        if self.kind == "average":
            return (x,) * self.count
        if self._checked(x.shape[self.dim]) is None:
            return x.chunk(self.count)
        if self._order:
            x = x[torch.tensor(self._order, device=x.device)]
        return x.tensor_split(self._ends, self.dim)

    def rows(self, count: int) -> tuple[list[int], ...]:
        """Which rows of ``count`` each branch gets; not of ``split`` and ``average``, which divide no rows."""
        sizes = self._checked(count) or (count // self.count,) * self.count
        order = self._order or list(range(count))
        ends = list(accumulate(sizes))
        return tuple(order[end - size : end] for size, end in zip(sizes, ends, strict=True))

    def join(self, parts: list[Tensor]) -> Tensor:
        """The branches' results, in the branches' order, as one tensor."""
        if self.kind == "average":
            out = parts[0] * self._shares[0]
            for part, share in zip(parts[1:], self._shares[1:], strict=True):
                out = torch.add(out, part, alpha=share)
            return out
        out = torch.cat(parts, self.dim)
        return out[torch.tensor(self._back, device=out.device)] if self._order else out

    def _checked(self, size: int) -> tuple[int, ...] | None:
        """The branches' sizes, None for equal ones; ``composition-misfit`` where ``size`` can't be divided so."""
        if self._sizes is None:
            if size % self.count:
                self._misfit(size, f"a multiple of {self.count}")
        elif size != sum(self._sizes):
            self._misfit(size, str(sum(self._sizes)))
        return self._sizes

    def _misfit(self, size: int, wanted: str) -> None:
        what = "positions" if self.kind == "split" else "rows"
        raise CompositionError(
            "composition-misfit",
            f"the batch has {size} {what}, and the active composition is for {wanted}",
            cause=str(self.block)[:200],
            hint="activate a composition for this batch",
        )
