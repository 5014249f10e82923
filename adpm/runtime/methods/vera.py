"""VeRA in PEFT's form: one random pair for all layers, scaled by two vectors.

    y + l_b * (((drop(x) A^T) * l_d) B^T)        A: r x in, B: out x r, cut from the shared pair; l_d: r, l_b: out

The pair is as large as the largest layer. Sources: Kopiczko et al. 2023 (2310.11454); ``peft`` 0.21.2,
``tuners/vera/layer.py`` and ``model.py``.
"""

from __future__ import annotations

import math
from typing import Final, cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftPvera, PeftVera
from adpm.runtime.methods.layer import PairPart, Place, Tensors

__all__ = ["PROJECTION", "VeraPart", "start_lambdas", "start_vera_pair", "vera_pair_slots"]

PROJECTION: Final = "shared/projection"  # the key of the random part that VeRA's and RandLoRA's layers share


def vera_pair_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """A and B for all layers; their names follow ``base_model.``."""
    rank = cast("PeftVera", config).r
    inputs, outputs = max(place.inputs for place in places), max(place.outputs for place in places)
    return Slot("A", "vera_A", (rank, inputs)), Slot("B", "vera_B", (outputs, rank))


def start_vera_pair(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG001 - its key decides
    """Kaiming's uniform distribution from the config's own key, so that the peer makes the same pair."""
    own = torch.Generator().manual_seed(cast("PeftVera | PeftPvera", config).projection_prng_key)
    for name in ("A", "B"):
        tensor = tensors[name]
        bound = math.sqrt(6 / tensor.shape[1])
        tensor.copy_(torch.empty(tensor.shape).uniform_(-bound, bound, generator=own))


def start_lambdas(tensors: Tensors, first: float | None, generator: Generator | None) -> None:
    """Without an effect, ``lambda_d`` all ``first``; or with a random one for None."""
    if first is None:
        nn.init.normal_(tensors["lambda_d"], generator=generator)
        nn.init.ones_(tensors["lambda_b"])
    else:
        nn.init.constant_(tensors["lambda_d"], first)
        nn.init.zeros_(tensors["lambda_b"])


class VeraPart(PairPart):
    """Slots: ``lambda_d``, ``lambda_b``."""

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftVera", config).vera_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        rank = cast("PeftVera", config).r
        return Slot("lambda_d", "vera_lambda_d", (rank,)), Slot("lambda_b", "vera_lambda_b", (place.outputs,))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftVera", config)
        start_lambdas(tensors, config.d_initial if config.init_weights else None, generator)

    def pair(self) -> tuple[Tensor, Tensor]:
        common = self._parts[PROJECTION]
        a = common["A"][:, : self.place.inputs] * self["lambda_d"].unsqueeze(1)
        b = common["B"][: self.place.outputs] * self["lambda_b"].unsqueeze(1)
        return a, b
