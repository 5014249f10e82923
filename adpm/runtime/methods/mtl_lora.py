"""MTL-LoRA: LoRA with a matrix of the task between the factors, and several up-projections weighted among each other.

    delta(x) = sum_i (w_i / sum w) * (drop(x) A^T T B_i^T) * alpha / r         w_i = exp(weights_i / sharpness)
    A: r x in, B: n x out x r, T: diag(values) or r x r;  gate: as in ``low_rank.py``, instead of alpha / r

The sum over i is one LoRA whose B is the weighted mean of all B_i. Sources: Yang et al. 2024 (2410.09437);
``adapters`` 1.3.0, ``methods/lora.py`` (``MTLLoRA``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_methods import MtlLora
from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart, start_low_rank

__all__ = ["MtlLoraPart", "start_mtl_lora"]


class MtlLoraPart(LowRankPart):
    """Slots: ``formats.adapterhub_sequence.mtl_slots``."""

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, config: MtlLora) -> None:
        options = LowRankOptions(config.alpha / config.r, config.dropout, chained=True, gated=config.use_gating)
        super().__init__(adapter, names, layer, options)
        self.sharpness = config.weights_sharpness

    def pair(self) -> tuple[Tensor, Tensor]:
        shares = torch.softmax(self["weights"] / self.sharpness, dim=0)
        task = self["task"]
        a = self["A"] * task.unsqueeze(1) if task.dim() == 1 else task.T @ self["A"]
        return a, torch.einsum("n,nor->or", shares, self["B"])


def start_mtl_lora(
    config: MtlLora, layer: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None
) -> None:
    """As LoRA; the task's matrix and the weights start as ones."""
    for name in ("task", "weights"):
        nn.init.ones_(tensors[name])
    rest = {name: tensor for name, tensor in tensors.items() if name not in ("task", "weights")}
    start_low_rank(config.init_weights, layer, rest, generator)
