"""RandLoRA: a sum of random low-rank changes, so many that the whole has full rank, each scaled by two vectors.

    with m = min(in, out), M = max(in, out), n = ceil(m / r) changes:
    A'[k, j] = l[k, j] * A[k, 0, :m] * g[j]        l: r x n, g: n x m, A: r x 1 x m (the largest layer's)
    B'       = B[:M, :n]                           B: M x n x r (the largest layer's)
    y + (alpha / r) * x A'^T B'^T  with A' as r n x in and B' as out x n r, or the other way round where in > out

A' and B' are flattened as they lie, so that row k n + j of the one meets column j r + k of the other. Sources: Albert et al. 2025 (2502.00987); ``peft`` 0.21.2, ``tuners/randlora/layer.py`` and ``model.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftRandLora
from adpm.runtime.methods.layer import PairPart, Place, Tensors
from adpm.runtime.methods.vera import PROJECTION

__all__ = ["RandLoraPart", "randlora_base_slots", "start_randlora_bases"]


def randlora_base_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """A and B for all layers; their names follow ``base_model.``."""
    rank = cast("PeftRandLora", config).r
    sizes = max(place.inputs for place in places), max(place.outputs for place in places)
    small, large = min(sizes), max(sizes)
    bases = math.ceil(small / rank)
    return Slot("A", "randlora_A", (rank, 1, small)), Slot("B", "randlora_B", (large, bases, rank))


def start_randlora_bases(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG001 - its key decides
    """Random values from the config's own key, so that the peer makes the same bases (in bfloat16 unless sparse)."""
    config = cast("PeftRandLora", config)
    own = torch.Generator().manual_seed(config.projection_prng_key)
    a, b = tensors["A"], tensors["B"]
    if config.sparse or config.very_sparse:
        share = 1 / (2 * (math.sqrt(a.shape[2]) if config.very_sparse else 3))
        first, second = (_signs(torch.rand(tensor.shape, generator=own), share) for tensor in (a, b))
    else:
        first = _uniform((a.shape[0], 1, a.shape[2]), own)
        second = torch.cat([_uniform((b.shape[0], 1, b.shape[2]), own) for _ in range(b.shape[1])], dim=1)
    a.copy_(first / first.std())
    b.copy_(second / second.std())


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return nn.init.kaiming_uniform_(torch.empty(shape, dtype=torch.bfloat16), a=math.sqrt(5), generator=generator)


def _signs(values: Tensor, share: float) -> Tensor:
    return (values > 1 - share).float() - (values < share).float()


class RandLoraPart(PairPart):
    """Slots: ``lambda``, ``gamma``."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftRandLora", config)
        self.scale = config.randlora_alpha / config.r
        self.dropout = config.randlora_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        rank = cast("PeftRandLora", config).r
        small = min(place.inputs, place.outputs)
        bases = math.ceil(small / rank)
        return Slot("lambda", "randlora_lambda", (rank, bases)), Slot("gamma", "randlora_gamma", (bases, small))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftRandLora", config).init_weights:
            nn.init.zeros_(tensors["lambda"])
            nn.init.constant_(tensors["gamma"], 1 / max(tensors["gamma"].shape))
        else:
            nn.init.normal_(tensors["lambda"], generator=generator)
            nn.init.constant_(tensors["gamma"], 1 / max(_place.inputs, _place.outputs))

    def pair(self) -> tuple[Tensor, Tensor]:
        common, scale, gamma = self._parts[PROJECTION], self["lambda"], self["gamma"]
        bases, small = gamma.shape
        large = max(self.place.inputs, self.place.outputs)
        scaled = (scale.unsqueeze(2) * common["A"][:, :, :small] * gamma).flatten(0, 1)  # r n x m
        fixed = common["B"][:large, :bases].flatten(1)  # M x n r
        return (scaled, fixed) if small == self.place.inputs else (fixed.T, scaled.T)
