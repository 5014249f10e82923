"""LoRA that started by taking something out of the base's weight, in PEFT: PiSSA, OLoRA and KaSA.

The peer changes the base, W := W - scale * B0 A0, and trains A and B, the first two from A0 and B0. Here the base
stays, and the change is scale * (B A - B0 A0), the same sum:

    pissa    B0 A0 = the r largest singular values and vectors of W, over scale
    olora    B0 A0 = the first r columns of Q times the first r rows of R, where W = Q R
    kasa     B0 A0 = the r smallest singular values and vectors of W, over scale; and A := diag(d) A with d: r

The products depend on W alone, whatever signs a decomposition takes. They are made in float32, as the peer's: where
two values at the cut lie close, rounding decides what was taken out, and A and B were trained beside that.
``pissa_niter_N`` approximates the first by random numbers that nobody kept; the exact one stands in for
it. Sources: Meng et al. 2024 (2404.02948), Büyükakyüz 2024 (2406.01775), Wang et al. 2024 (2412.06071); ``peft``
0.21.2, ``tuners/lora/layer.py`` and ``variants.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adpm.runtime.methods.layer import weight_of
from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart

__all__ = ["ResidualPart", "first_pair"]


def first_pair(way: str, layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 (r x in) and B0 (out x r) of a layer, in float32, in memory of their own."""
    weight = weight_of(layer).detach().float()
    if way == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank].clone(), q[:, :rank].clone()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    if way == "kasa":
        return right[-rank:].clone(), left[:, -rank:] * values[-rank:] / scale
    root = (values[:rank] / scale).sqrt()
    return root.unsqueeze(1) * right[:rank], left[:, :rank] * root


class ResidualPart(LowRankPart):
    """A low-rank change of twice the rank, whose second half is fixed. Slots as LoRA's; KaSA's has "diag" too."""

    def __init__(
        self,
        adapter: Any,
        names: Mapping[str, str],
        layer: str,
        options: LowRankOptions,
        first: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__(adapter, names, layer, options)
        self._first = first

    @property
    def is_plain(self) -> bool:
        return super().is_plain and "diag" not in self

    def pair(self) -> tuple[Tensor, Tensor]:
        a, b = self["A"], self["B"]
        if "diag" in self:
            a = self["diag"].unsqueeze(1) * a
        first_a, first_b = (tensor.to(a) for tensor in self._first)
        return torch.cat((a, first_a)), torch.cat((b, -first_b), dim=1)
