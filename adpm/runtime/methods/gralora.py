"""GraLoRA: the weight in k x k blocks, each with a low-rank change of its own.

    D[j, n] = s B[j, n]^T A[n, j]^T        block row j (out / k), block column n (in / k), s = alpha / (r + hybrid_r)
    A: k x in / k x r, B: k x r x out / k  A[n, j]: columns j r / k ... of A[n], B[j, n]: rows n r / k ... of B[j]

With ``hybrid_r`` an ordinary LoRA is added, scaled by s too: A': hybrid_r x in, B': out x hybrid_r. Sources: Jung et
al. 2025 (2505.20355); ``peft`` 0.21.2, ``tuners/gralora/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftGralora
from adpm.runtime.methods.layer import DeltaPart, Place, Tensors, misfit

__all__ = ["GraloraPart"]


class GraloraPart(DeltaPart):
    """Slots: ``A``, ``B``, and ``A_general``, ``B_general`` with ``hybrid_r``."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftGralora", config)
        self.scale = config.alpha / (config.r + config.hybrid_r)
        self.dropout = config.gralora_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftGralora", config)
        blocks = config.gralora_k
        if place.inputs % blocks or place.outputs % blocks:
            raise misfit(place, f"gralora_k = {blocks} must divide its inputs and outputs")
        slots = (
            Slot("A", "gralora_A", (blocks, place.inputs // blocks, config.r)),
            Slot("B", "gralora_B", (blocks, config.r, place.outputs // blocks)),
        )
        if not config.hybrid_r:
            return slots
        return (
            *slots,
            Slot("A_general", "gralora_A_general.weight", (config.hybrid_r, place.inputs)),
            Slot("B_general", "gralora_B_general.weight", (place.outputs, config.hybrid_r)),
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        for name, tensor in tensors.items():
            if name.startswith("B") and cast("PeftGralora", config).init_weights:
                nn.init.zeros_(tensor)
            else:
                blocks = tensor if name.endswith("general") else tensor.transpose(-1, -2)
                for block in blocks if blocks.dim() > 2 else [blocks]:
                    nn.init.kaiming_uniform_(block, a=math.sqrt(5), generator=generator)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        a, b = self["A"], self["B"]
        blocks = len(a)
        columns = a.reshape(*a.shape[:2], blocks, -1)  # n, in / k, j, r / k
        rows = b.reshape(blocks, blocks, -1, b.shape[-1])  # j, n, r / k, out / k
        whole = torch.einsum("nijs,jnso->joni", columns, rows).reshape(self.place.outputs, self.place.inputs)
        if "A_general" in self.names:
            whole = whole + self["B_general"] @ self["A_general"]
        return whole * self.scale
