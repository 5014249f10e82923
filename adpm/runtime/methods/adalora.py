"""AdaLoRA: a singular value decomposition whose rank training lowered layer by layer.

    y + (alpha / (r0 + 1e-5)) * (drop(x) (A * E)^T) B^T       A: r x in, E: r x 1, B: out x r, r0 the rank at the start

An alpha of 0 or less means r. Sources: Zhang et al. 2023 (2303.10512); ``peft`` 0.21.2, ``tuners/adalora``.
"""

from __future__ import annotations

from typing import cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_lora import PeftAdaLora
from adpm.runtime.methods.layer import PairPart, Place, Tensors

__all__ = ["AdaLoraPart"]


class AdaLoraPart(PairPart):
    """Slots: ``A``, ``E``, ``B``."""

    CONVOLVED = (nn.Conv2d,)

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftAdaLora", config)
        alpha = config.lora_alpha if config.lora_alpha > 0 else float(_rank(config, self.place))
        self.scale = alpha / (config.init_r + 1e-5)
        self.dropout = config.lora_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        rank = _rank(cast("PeftAdaLora", config), place)
        return (
            Slot("A", "lora_A", (rank, place.inputs)),
            Slot("E", "lora_E", (rank, 1)),
            Slot("B", "lora_B", (place.outputs, rank)),
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        ready = cast("PeftAdaLora", config).init_lora_weights
        for name, tensor in tensors.items():
            if name == "E" and ready:
                nn.init.zeros_(tensor)
            else:
                nn.init.normal_(tensor, std=0.02 if ready else 1.0, generator=generator)

    def pair(self) -> tuple[Tensor, Tensor]:
        return self["A"] * self["E"], self["B"]


def _rank(config: PeftAdaLora, place: Place) -> int:
    """How many singular values the layer has left."""
    for name, kept in config.rank_pattern:
        if name.rpartition(".")[0] == place.name:
            return sum(kept)
    return config.init_r
