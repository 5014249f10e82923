"""SHiRA: a few weights of the layer are changed.

    D[i, j] = w_k at the k-th of the places (i, j)        places: 2 x n, w: n, n = r (in + out)

Sources: Bhardwaj et al. 2024 (2406.13175); ``peft`` 0.21.2, ``tuners/shira/layer.py`` and ``mask_functions.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftShira
from adpm.runtime.methods.layer import DeltaPart, Place, Tensors, misfit

__all__ = ["ShiraPart"]


class ShiraPart(DeltaPart):
    """Slots: ``weight``, ``places``."""

    FROZEN = frozenset({"places"})

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        count = cast("PeftShira", config).r * (place.inputs + place.outputs)
        if count > place.inputs * place.outputs:
            raise misfit(place, f"it has fewer than {count} weights")
        sides = place.outputs, place.inputs
        return Slot("weight", "shira_weight", (count,)), Slot("places", "shira_indices", (2, count), below=sides)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftShira", config)
        if config.random_seed is not None:
            generator = torch.Generator().manual_seed(config.random_seed)
        count = len(tensors["weight"])
        chosen = torch.randperm(_place.inputs * _place.outputs, generator=generator)[:count].sort().values
        tensors["places"].copy_(torch.stack((chosen // _place.inputs, chosen % _place.inputs)))
        if config.init_weights:
            nn.init.zeros_(tensors["weight"])
        else:
            nn.init.normal_(tensors["weight"], generator=generator)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        values, places = self["weight"], self["places"].long()
        return values.new_zeros(self.place.outputs, self.place.inputs).index_put((places[0], places[1]), values)
