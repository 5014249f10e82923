"""VB-LoRA: the rows of A and columns of B are put together from a bank of vectors that all layers share.

    A[i, j] = sum over the k largest l of softmax(l) bank[.]          l: r x (in / v) x n, bank: n x v
    B likewise from out / v x r x n;  y + (drop(x) A^T) B^T

With ``save_only_topk_weights`` the file holds the k places and the first k - 1 softmax values instead of l; such an
adapter is not trained again. Sources: Li et al. 2024 (2405.15179); ``peft`` 0.21.2, ``tuners/vblora/layer.py``.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftVbLora
from adpm.runtime.methods.layer import PairPart, Place, Tensors, misfit

__all__ = ["BANK", "VbLoraPart", "bank_slots", "start_bank"]

BANK: Final = "shared/bank"


def bank_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:  # noqa: ARG001 - a shared part's
    """The bank; its name follows ``base_model.``."""
    config = cast("PeftVbLora", config)
    return (Slot("bank", "vblora_vector_bank", (config.num_vectors, config.vector_length)),)


def start_bank(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:
    bound = cast("PeftVbLora", config).init_vector_bank_bound
    nn.init.uniform_(tensors["bank"], -bound, bound, generator=generator)


class VbLoraPart(PairPart):
    """Slots: ``A`` and ``B``, or ``A_places``, ``A_weights``, ``B_places``, ``B_weights``."""

    FROZEN = frozenset({"A_places", "A_weights", "B_places", "B_weights"})

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftVbLora", config)
        self.dropout = config.vblora_dropout
        self.topk = config.topk

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftVbLora", config)
        length, vectors = config.vector_length, config.num_vectors
        if place.inputs % length or place.outputs % length or config.topk > vectors:
            raise misfit(place, f"vector_length {length} must divide both, and topk be at most {vectors}")
        tiles = {"A": (config.r, place.inputs // length), "B": (place.outputs // length, config.r)}
        if not config.save_only_topk_weights:
            return tuple(Slot(name, f"vblora_logits_{name}", (*shape, vectors)) for name, shape in tiles.items())
        return tuple(
            slot
            for name, shape in tiles.items()
            for slot in (
                Slot(
                    f"{name}_places",
                    f"vblora_logits_{name}_topk_indices",
                    (*shape, config.topk),
                    below=(config.num_vectors,),
                ),
                Slot(f"{name}_weights", f"vblora_logits_{name}_topk_weights", (*shape, config.topk - 1)),
            )
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        std = cast("PeftVbLora", config).init_logits_std
        for tensor in tensors.values():
            if tensor.is_floating_point():
                nn.init.normal_(tensor, std=std, generator=generator)
            else:
                nn.init.zeros_(tensor)

    def pair(self) -> tuple[Tensor, Tensor]:
        a = self._tiles("A").flatten(1)
        b = self._tiles("B").transpose(1, 2).flatten(0, 1)
        return a, b

    def _tiles(self, name: str) -> Tensor:
        """Shape: tiles of ``name`` x v."""
        bank = self._parts[BANK]["bank"]
        if name in self:
            largest, places = self[name].topk(self.topk, dim=-1)
            weights = torch.softmax(largest, dim=-1)
        else:
            first, places = self[f"{name}_weights"], self[f"{name}_places"].long()
            weights = torch.cat((first, 1 - first.sum(-1, keepdim=True)), dim=-1)
        return (weights.unsqueeze(-1) * bank[places]).sum(-2)
