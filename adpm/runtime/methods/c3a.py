"""C3A: block-circular convolution.

    y + Re(fft(sum over n of ifft(x_n) * fft(w_mn))) / in        w: out / b x in / b x b, x_n: the n-th b inputs

In float32, which Fourier transforms want. Several in a row each see x; in the peer the second sees the first's
change. Sources: Chen et al. 2024 (2407.19342); ``peft`` 0.21.2, ``tuners/c3a/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftC3a
from adpm.runtime.methods.layer import DeltaPart, Place, Seen, Tensors, misfit
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["C3aPart"]


class C3aPart(DeltaPart):
    """Slot: ``kernel``."""

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftC3a", config)
        block = by_pattern(config.block_size_pattern, place.name, config.block_size)
        if place.inputs % block or place.outputs % block:
            raise misfit(place, f"block_size {block} does not divide both")
        return (Slot("kernel", "c3a_kernel", (place.outputs // block, place.inputs // block, block)),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        kernel, way = tensors["kernel"], cast("PeftC3a", config).init_weights
        if way is True:
            nn.init.zeros_(kernel)
        elif way == "gaussian":
            nn.init.normal_(kernel, generator=generator)
        else:
            fans = _place.inputs if way == "kaiming_uniform" else (_place.inputs + _place.outputs) / 6
            nn.init.uniform_(kernel, -1 / math.sqrt(fans), 1 / math.sqrt(fans), generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        return output + self._convolve(seen.x).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        return self._convolve(torch.eye(self.place.inputs, device=self["kernel"].device)).T

    def _convolve(self, x: Tensor) -> Tensor:
        kernel = self["kernel"].float()
        blocks = x.float().reshape(*x.shape[:-1], *kernel.shape[1:])
        mixed = torch.einsum("...nb,mnb->...mb", torch.fft.ifft(blocks), torch.fft.fft(kernel))
        return torch.fft.fft(mixed).real.flatten(-2) / x.shape[-1]
