"""PVeRA: VeRA whose inner values are drawn from a distribution while it is trained, and its mean otherwise.

    m, v = halves of (drop(x) A^T) * l_d       A: 2 r x in, B: out x r, cut from the shared pair; l_d: 2 r, l_b: out
    y + l_b * (z B^T)                          z = m; in training m + e exp(v / 2), e normal

Sources: 2512.07703; ``peft`` 0.21.2, ``tuners/pvera/layer.py`` and ``model.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftPvera
from adpm.runtime.methods.layer import PairPart, Place, Seen, Tensors
from adpm.runtime.methods.vera import PROJECTION, start_lambdas

__all__ = ["PveraPart", "pvera_pair_slots"]


def pvera_pair_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """A and B for all layers; their names follow ``base_model.``."""
    rank = cast("PeftPvera", config).r
    inputs, outputs = max(place.inputs for place in places), max(place.outputs for place in places)
    return Slot("A", "pvera_A", (2 * rank, inputs)), Slot("B", "pvera_B", (outputs, rank))


class PveraPart(PairPart):
    """Slots: ``lambda_d``, ``lambda_b``."""

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftPvera", config).pvera_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        rank = cast("PeftPvera", config).r
        return Slot("lambda_d", "pvera_lambda_d", (2 * rank,)), Slot("lambda_b", "pvera_lambda_b", (place.outputs,))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftPvera", config)
        start_lambdas(tensors, config.d_initial if config.init_weights else None, generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        if not self.training:
            return super().after(seen, output)
        both, b = self._sides()
        x = functional.dropout(seen.x, self.dropout) if self.dropout else seen.x
        mean, variance = functional.linear(x.to(both.dtype), both).chunk(2, dim=-1)
        drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * variance)
        return output + functional.linear(drawn, b).to(output.dtype)

    def pair(self) -> tuple[Tensor, Tensor]:
        both, b = self._sides()
        return both.chunk(2)[0], b

    def _sides(self) -> tuple[Tensor, Tensor]:
        common = self._parts[PROJECTION]
        both = common["A"][:, : self.place.inputs] * self["lambda_d"].unsqueeze(1)
        return both, common["B"][: self.place.outputs] * self["lambda_b"].unsqueeze(1)
