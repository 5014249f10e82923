"""LoHa: the elementwise product of two low-rank matrices.

    D = (alpha / r) * (A1 B1) * (A2 B2)            A1, A2: out x r, B1, B2: r x in

Sources: Hyeon-Woo et al. 2021 (FedPara, 2108.06098); LyCORIS; ``peft`` 0.21.2, ``tuners/loha/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftLoha, PeftLokr
from adpm.runtime.methods.layer import DeltaPart, Place, Seen, Tensors
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["LohaPart", "LycorisPart"]


class LycorisPart(DeltaPart):
    """What LoHa and LoKr share: the scale, and dropout of rows of D and of the whole change while training."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftLoha | PeftLokr", config)
        rank = by_pattern(config.rank_pattern, self.place.name, config.r)
        self.scale = by_pattern(config.alpha_pattern, self.place.name, config.alpha) / rank
        self.rank_dropout, self.module_dropout = config.rank_dropout, config.module_dropout
        self.scales_dropout = isinstance(config, PeftLoha) or config.rank_dropout_scale

    def whole(self) -> Tensor:
        """D without dropout."""
        raise NotImplementedError

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        whole = self.whole()
        if self.rank_dropout and self.training:
            kept = (torch.rand(len(whole), 1, device=whole.device) > self.rank_dropout).to(whole.dtype)
            whole = whole * (kept / kept.mean() if self.scales_dropout else kept)
        return whole

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        if self.training and self.module_dropout and torch.rand(()).item() <= self.module_dropout:
            return output
        return super().after(seen, output)


class LohaPart(LycorisPart):
    """Slots: ``w1_a``, ``w1_b``, ``w2_a``, ``w2_b``."""

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftLoha", config)
        rank = by_pattern(config.rank_pattern, place.name, config.r)
        shapes = {"a": (place.outputs, rank), "b": (rank, place.inputs)}
        return tuple(Slot(f"w{i}_{k}", f"hada_w{i}_{k}", shape) for i in (1, 2) for k, shape in shapes.items())

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        for name, tensor in tensors.items():
            if name == "w2_b" and cast("PeftLoha", config).init_weights:
                nn.init.zeros_(tensor)
            else:
                nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)

    def whole(self) -> Tensor:
        return (self["w1_a"] @ self["w1_b"]) * (self["w2_a"] @ self["w2_b"]) * self.scale
