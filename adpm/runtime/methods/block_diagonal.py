"""LoRA one of whose factors is block-diagonal, in PEFT (``use_bdlora``): y + scale * (x A^T) B^T.

    A = diag(A_1, ..., A_n)   A_i: r/n x in/n         or         B = diag(B_1, ..., B_n)   B_i: out/n x r/n

Files hold the blocks on top of each other: r x in/n, or out x r/n.
Source: ``peft`` 0.21.2, ``tuners/lora/variants.py`` (``BlockDiagonalLinear``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart

__all__ = ["BlockDiagonalPart"]


class BlockDiagonalPart(LowRankPart):
    """Slots as LoRA's; ``factor``, "A" or "B", has ``blocks`` of them."""

    def __init__(  # noqa: PLR0917 - what a part has, and what it is divided into
        self, adapter: Any, names: Mapping[str, str], layer: str, options: LowRankOptions, factor: str, blocks: int
    ) -> None:
        super().__init__(adapter, names, layer, options)
        self._factor = factor
        self._blocks = blocks

    @property
    def is_plain(self) -> bool:
        return False

    def pair(self) -> tuple[Tensor, Tensor]:
        blocks = self[self._factor].chunk(self._blocks)
        whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch gives it no types
        return (whole, self["B"]) if self._factor == "A" else (self["A"], whole)
