"""TinyLoRA: a matrix between W's largest singular vectors, put together from a few trained numbers.

    D = B R A,  R = sum over i of v[i] P[i]        A: r x in and B: out x r, of W = U S V^T: sqrt(S) V^T and U sqrt(S)
                                                   v: u, of a group of layers; P: u x r x r, random

Of n layers there are g = max(1, round(n (1 - weight_tying))) groups of n // g each, and what is left is in the last. P
is in the file, or comes from the seed and the layer's number. Sources: "Learning to Reason in 13 Parameters"
(2602.04118); ``peft`` 0.21.2, ``tuners/tinylora/layer.py`` and ``model.py``.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftTinyLora
from adpm.runtime.methods.layer import PairPart, Place, Tensors, weight_of

__all__ = [
    "PROJECTIONS",
    "VECTORS",
    "TinyLoraPart",
    "projection_slots",
    "start_projections",
    "start_vectors",
    "vector_slots",
]

VECTORS: Final = "shared/vectors"
PROJECTIONS: Final = "shared/projections"


def vector_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """A vector for each group; their names follow ``base_model.``."""
    config = cast("PeftTinyLora", config)
    groups = sorted({_group(config, place) for place in places})
    return tuple(Slot(str(group), f"tinylora_v.{group}", (config.u,)) for group in groups)


def start_vectors(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:
    config = cast("PeftTinyLora", config)
    bound = 0.0 if config.init_weights is True else config.init_v_bound
    for tensor in tensors.values():
        nn.init.uniform_(tensor, -bound, bound, generator=generator)


def projection_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """The layers' P by their numbers, where no file holds them."""
    config = cast("PeftTinyLora", config)
    if config.save_projection:
        return ()
    return tuple(Slot(str(place.number), f"tinylora_P.{place.number}", _size(config, place)) for place in places)


def start_projections(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG001 - its seed decides
    for number, tensor in tensors.items():
        tensor.copy_(_projection(cast("PeftTinyLora", config), int(number), tensor))


def _projection(config: PeftTinyLora, number: int, like: Tensor) -> Tensor:
    own = torch.Generator().manual_seed(config.projection_seed + number)
    return torch.normal(0.0, 1.0 / like.shape[1] ** 0.5, tuple(like.shape), generator=own)


def _size(config: PeftTinyLora, place: Place) -> tuple[int, int, int]:
    rank = min(config.r, place.inputs, place.outputs)
    return config.u, rank, rank


def _group(config: PeftTinyLora, place: Place) -> int:
    groups = max(1, round(place.among * (1.0 - config.weight_tying)))
    return min(place.number // max(1, place.among // groups), groups - 1)


class TinyLoraPart(PairPart):
    """Slots: ``A``, ``B``, and ``P`` where the file holds it."""

    FROZEN = frozenset({"A", "B", "P"})

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftTinyLora", config)
        self.dropout = config.tinylora_dropout
        self.group = str(_group(config, self.place))

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftTinyLora", config)
        size = _size(config, place)
        pair = (Slot("A", "tinylora_A", (size[1], place.inputs)), Slot("B", "tinylora_B", (place.outputs, size[1])))
        return (*pair, Slot("P", "tinylora_P", size)) if config.save_projection else pair

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG003 - its seed decides
        left, values, right = torch.linalg.svd(weight_of(_place.module).detach().float(), full_matrices=False)
        rank = len(tensors["A"])
        root = values[:rank].sqrt()
        tensors["A"].copy_(root.unsqueeze(1) * right[:rank])
        tensors["B"].copy_(left[:, :rank] * root)
        if "P" in tensors:
            tensors["P"].copy_(_projection(cast("PeftTinyLora", config), _place.number, tensors["P"]))

    def pair(self) -> tuple[Tensor, Tensor]:
        projections = self["P"] if "P" in self else self._parts[PROJECTIONS][str(self.place.number)]
        vector = self._parts[VECTORS][self.group]
        return self["A"], self["B"] @ torch.einsum("i,ijk->jk", vector, projections)
