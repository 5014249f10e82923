"""LoHa: the elementwise product of two low-rank matrices.

    D = (alpha / r) * (A1 B1) * (A2 B2)            A1, A2: out x r, B1, B2: r x in
    A_i B_i[p, q, :] = sum over s, t of A_i[s, p] B_i[t, q] T_i[s, t, :]        T_i: r x r x kernel

The second where ``use_effective_conv2d`` on a convolution that is wider than a point, with A: r x out and B: r x in.
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

__all__ = ["LohaPart", "LycorisPart", "core", "is_effective", "through_core"]


class LycorisPart(DeltaPart):
    """What LoHa and LoKr share: the scale, and dropout of rows of D and of the whole change while training."""

    CONVOLVED = (nn.Conv1d, nn.Conv2d)

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
        shapes: dict[str, tuple[int, ...]] = {"w{}_a": (place.outputs, rank), "w{}_b": (rank, place.inputs)}
        if is_effective(config, place):
            inputs = place.inputs // math.prod(place.kernel)
            shapes = {"w{}_a": (rank, place.outputs), "w{}_b": (rank, inputs), "t{}": core(rank, place)}
        return tuple(
            Slot(name.format(i), f"hada_{name.format(i)}", shape) for i in (1, 2) for name, shape in shapes.items()
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        for name, tensor in tensors.items():
            if name == "w2_b" and cast("PeftLoha", config).init_weights:
                nn.init.zeros_(tensor)
            else:
                nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)

    def whole(self) -> Tensor:
        return self._matrix(1) * self._matrix(2) * self.scale

    def _matrix(self, i: int) -> Tensor:
        a, b = self[f"w{i}_a"], self[f"w{i}_b"]
        return through_core(self[f"t{i}"], a, b).flatten(1) if f"t{i}" in self else a @ b


def is_effective(config: PeftLoha | PeftLokr, place: Place) -> bool:
    """Whether a convolution's kernel has a tensor of its own."""
    return config.use_effective_conv2d and math.prod(place.kernel) > 1


def core(rank: int, place: Place) -> tuple[int, ...]:
    """The shape of that tensor: that of two dimensions in files, too, where the kernel has one."""
    return rank, rank, *place.kernel, *(1,) * (2 - len(place.kernel))


def through_core(middle: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Shapes: r x r x kernel, r x out, r x in; out x in x kernel."""
    return torch.einsum("stkl,sp,tq->pqkl", middle, a, b)
