"""DeLoRA: a low-rank change whose norm is a number of its own.

    y + ((drop(x) * w) A'^T) B^T        A'[i] = l / r * A[i] / (|A[i]| |B[:, i]|), A: r x in, B: out x r, l: 1
                                        w: in, the norms of the base weight's columns, as they are in the file

Norms are at least 1e-4. Sources: Bini et al. 2025 (2503.18225); ``peft`` 0.21.2, ``tuners/delora/layer.py``.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final, cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftDelora
from adpm.runtime.methods.layer import PairPart, Place, Tensors, weight_of
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["DeloraPart"]

_LEAST: Final = 1e-4


class DeloraPart(PairPart):
    """Slots: ``A``, ``B``, ``lambda``, ``norm``."""

    FROZEN: ClassVar[frozenset[str]] = frozenset({"norm"})

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftDelora", config).module_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftDelora", config)
        rank = by_pattern(config.rank_pattern, place.name, config.r)
        return (
            Slot("A", "delora_A", (rank, place.inputs)),
            Slot("B", "delora_B", (place.outputs, rank)),
            Slot("lambda", "delora_lambda", (1,)),
            Slot("norm", "delora_w_norm", (place.inputs,)),
        )

    @classmethod
    def start(cls, config: PeftMethod, place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftDelora", config)
        nn.init.kaiming_uniform_(tensors["A"], a=math.sqrt(5), generator=generator)
        if config.init_weights:
            nn.init.zeros_(tensors["B"])
        else:
            nn.init.kaiming_uniform_(tensors["B"], a=math.sqrt(5), generator=generator)
        nn.init.constant_(tensors["lambda"], by_pattern(config.lambda_pattern, place.name, config.delora_lambda))
        tensors["norm"].copy_(weight_of(place.module).norm(dim=0))

    def pair(self) -> tuple[Tensor, Tensor]:
        a, b = self["A"], self["B"]
        norms = a.norm(dim=1).clamp(min=_LEAST) * b.norm(dim=0).clamp(min=_LEAST)
        scale = self["lambda"] / len(a) / norms
        return a * scale.unsqueeze(1) * self["norm"], b
