"""LoKr: a Kronecker product, whose factors are whole or of low rank.

    D = (alpha / r) * (W1 kron W2)          W1: l x m or A1 B1, W2: k x n or A2 B2, with out = l k, in = m n

On a convolution W2 is k x n x kernel, or A2 B2 with A2: k x r and B2: r x (n * kernel), or as LoHa's with T: r x r x
kernel where ``use_effective_conv2d``. Out and in are each split as ``_factors`` says. W2 is whole where
r >= max(k, n) / 2; W1 where ``decompose_both`` is false or r >= max(l, m) / 2.
Sources: LyCORIS; ``peft`` 0.21.2, ``tuners/lokr/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftLokr
from adpm.runtime.methods.layer import Place, Tensors
from adpm.runtime.methods.loha import LycorisPart, core, is_effective, through_core
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["LokrPart"]


class LokrPart(LycorisPart):
    """Slots: ``w1`` or ``w1_a`` and ``w1_b``; ``w2`` or ``w2_a`` and ``w2_b``, and ``t2``."""

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftLokr", config)
        rank = by_pattern(config.rank_pattern, place.name, config.r)
        points = math.prod(place.kernel)
        m, n = _factors(place.inputs // points, config.decompose_factor)
        out_l, k = _factors(place.outputs, config.decompose_factor)
        first = not config.decompose_both or rank >= max(out_l, m) / 2
        second = rank >= max(k, n) / 2
        one = _factor("w1", out_l, m, rank, whole=first)
        if second:
            return (*one, Slot("w2", "lokr_w2", (k, n, *place.kernel)))
        if is_effective(config, place):
            shapes = {"w2_a": (rank, k), "w2_b": (rank, n), "t2": core(rank, place)}
            return (*one, *(Slot(name, f"lokr_{name}", shape) for name, shape in shapes.items()))
        return (*one, *_factor("w2", k, n * points, rank, whole=False))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        way = cast("PeftLokr", config).init_weights
        zero = {"lycoris": ("w2", "w2_b"), True: ("w1", "w1_a")}.get(way, ())
        for name, tensor in tensors.items():
            if name in zero:
                nn.init.zeros_(tensor)
            else:
                nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)

    def whole(self) -> Tensor:
        first, second = self._matrix("w1"), self._matrix("w2")
        if second.dim() == 4:  # with a kernel of one dimension the peer lines up W1 with W2's last dimensions
            first = first[..., None, None]
        return torch.kron(first, second).reshape(self.place.outputs, self.place.inputs) * self.scale

    def _matrix(self, name: str) -> Tensor:
        if name in self:
            return self[name]
        a, b = self[f"{name}_a"], self[f"{name}_b"]
        return through_core(self["t2"], a, b) if name == "w2" and "t2" in self else a @ b


def _factor(name: str, rows: int, columns: int, rank: int, *, whole: bool) -> tuple[Slot, ...]:
    if whole:
        return (Slot(name, f"lokr_{name}", (rows, columns)),)
    return (
        Slot(f"{name}_a", f"lokr_{name}_a", (rows, rank)),
        Slot(f"{name}_b", f"lokr_{name}_b", (rank, columns)),
    )


def _factors(size: int, factor: int) -> tuple[int, int]:
    """Two factors of ``size``, the smaller first: ``factor`` where it divides, else the closest pair up to it."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    bound = size if factor == -1 else factor
    best = (1, size)
    for small in range(2, math.isqrt(size) + 1):
        if size % small == 0:
            if small > bound:
                break
            best = (small, size // small)
    return best
