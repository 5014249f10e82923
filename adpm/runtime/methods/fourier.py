"""FourierFT: a weight change with few frequencies.

    D = s * Re(ifft2(F))           F: out x in, zero but at the n places that the seed decides

Sources: Gao et al. 2024 (2405.03003); ``peft`` 0.21.2, ``tuners/fourierft/layer.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftFourier
from adpm.runtime.methods.layer import DeltaPart, Place, Tensors, misfit
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["FourierPart"]


class FourierPart(DeltaPart):
    """Slot: ``spectrum``, [n]."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftFourier", config)
        self.scale = config.scaling
        size = self.place.outputs * self.place.inputs
        generator = torch.Generator().manual_seed(config.random_loc_seed)
        self.places = torch.randperm(size, generator=generator)[: _frequencies(config, self.place)]

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        return (Slot("spectrum", "fourierft_spectrum", (_frequencies(cast("PeftFourier", config), place),)),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftFourier", config).init_weights:
            nn.init.zeros_(tensors["spectrum"])
        else:
            nn.init.normal_(tensors["spectrum"], generator=generator)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        spectrum = self["spectrum"]
        dense = torch.zeros(self.place.outputs * self.place.inputs, device=spectrum.device)
        dense = dense.index_put((self.places.to(spectrum.device),), spectrum.float())
        change = torch.fft.ifft2(dense.view(self.place.outputs, self.place.inputs)).real * self.scale
        return change.to(spectrum.dtype)


def _frequencies(config: PeftFourier, place: Place) -> int:
    count = by_pattern(config.n_frequency_pattern, place.name, config.n_frequency)
    if count > place.inputs * place.outputs:
        raise misfit(place, f"it has fewer than n_frequency = {count} weights")
    return count
