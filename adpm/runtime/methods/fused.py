"""AdapterHub's LoRA and (IA)3 on one linear layer that makes queries, keys and values at once.

y = (y_q, y_k, y_v) in the last dimension; for each i of the matrices that the config names, in this order:

    add      y_i + B_i A_i drop(x) * alpha / r        A_i: r x in, B_i: out_i x r; stacked in one A and one B
    scale    y_i * v_i * alpha, and the others y_j * alpha, as in the peer
    gate     sigmoid(x g_i^T + g0_i), meaned over the tokens, instead of alpha / r or alpha, and 1 for the others

The peer runs one such adapter at a time; here several act one after the other.
Source: ``adapters`` 1.3.0, ``methods/lora.py`` (``LoRAMergedLinear``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub import LowRank
from adpm.runtime.part import Part

__all__ = ["FusedPart"]


class FusedPart(Part):
    """The change of one fused layer, the module called ``layer``. ``sizes``: the widths of q, k and v.

    Slots: ``formats.adapterhub_tensors.fused_slots``.
    """

    def __init__(
        self, adapter: Any, names: Mapping[str, str], config: LowRank, layer: str, sizes: tuple[int, int, int]
    ) -> None:
        super().__init__(adapter, names)
        self.config = config
        self.layer = layer
        self.sizes = sizes
        self.enabled = tuple(matrix in config.attn_matrices for matrix in ("q", "k", "v"))
        self._widths = [size for size, enabled in zip(sizes, self.enabled, strict=True) if enabled]

    def after(self, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:  # noqa: ARG002 - as others look at it
        """What comes out instead of ``output``. Shapes: batch x tokens x in, batch x tokens x out."""
        config = self.config
        strengths = self._strengths(x)
        multiplies = config.composition_mode == "scale"
        changes = iter(torch.split(self["vector"].view(-1), self._widths) if multiplies else self._deltas(x))
        pieces: list[Tensor] = []
        for piece, enabled in zip(torch.split(output, list(self.sizes), -1), self.enabled, strict=True):
            if enabled:
                change = next(changes) * next(strengths)
                pieces.append(piece * change if multiplies else piece + change)
            else:
                pieces.append(piece * config.alpha if multiplies and not config.use_gating else piece)
        return torch.cat(pieces, -1)

    def _deltas(self, x: Tensor) -> list[Tensor]:
        dropout = self.config.dropout
        inner = functional.linear(functional.dropout(x, dropout) if dropout and self.training else x, self["A"])
        blocks = zip(torch.split(inner, self.config.r, -1), torch.split(self["B"], self._widths), strict=True)
        return [functional.linear(low, up) for low, up in blocks]

    def _strengths(self, x: Tensor) -> Any:
        """For each change its factor: a number, or batch x 1 x 1."""
        config = self.config
        if not config.use_gating:
            factor = config.alpha if config.composition_mode == "scale" else config.alpha / config.r
            return iter([factor] * len(self._widths))
        gates = torch.sigmoid(functional.linear(x, self["gate_weight"], self["gate_bias"])).mean(dim=1, keepdim=True)
        return iter(torch.split(gates, 1, -1))
