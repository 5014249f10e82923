"""HRA: the weight is multiplied by r reflections.

    y = x (W H_1 ... H_r)^T + b            H_i = I - 2 u_i u_i^T, u_i: in, of length 1
    apply_GS:  H = I - 2 U U^T with U's columns made orthogonal, which is all reflections at once

Computed on x, so that no in x in matrix is made: x goes through H_r first. Sources: Yuan et al. 2024 (2405.17484);
``peft`` 0.21.2, ``tuners/hra/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftHra
from adpm.runtime.methods.layer import MethodPart, Place, Tensors

__all__ = ["HraPart"]


class HraPart(MethodPart):
    """Slot: ``u``, [in, r]."""

    CONVOLVED = (nn.Conv2d,)

    def setup(self, config: PeftMethod) -> None:
        self.orthogonal = cast("PeftHra", config).apply_GS

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        return (Slot("u", "hra_u", (place.inputs, cast("PeftHra", config).r)),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        u = tensors["u"]
        nn.init.kaiming_uniform_(u, a=math.sqrt(5), generator=generator)
        if cast("PeftHra", config).init_weights and u.shape[1] % 2 == 0:  # pairs of equal reflections are nothing
            half = u[:, : u.shape[1] // 2]
            nn.init.kaiming_uniform_(half, a=math.sqrt(5), generator=generator)
            u.copy_(half.clone().repeat_interleave(2, dim=1))

    @property
    def folds(self) -> bool:
        return bool(self.place.kernel)

    @property
    def moves_input(self) -> bool:
        return not self.folds

    def before(self, x: Tensor) -> Tensor:
        u = self["u"].to(x.dtype)
        if self.orthogonal:
            base = _orthogonal(u)
            return x - 2 * (x @ base) @ base.T
        u = u / u.norm(dim=0)
        for column in range(u.shape[1] - 1, -1, -1):
            mirror = u[:, column]
            x = x - 2 * (x @ mirror).unsqueeze(-1) * mirror
        return x


def _orthogonal(u: Tensor) -> Tensor:
    """An orthonormal base of u's columns; which one does not matter for U U^T."""
    wide = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
    out: Tensor = torch.linalg.qr(wide)[0].to(u.dtype)
    return out
