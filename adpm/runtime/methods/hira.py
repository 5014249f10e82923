"""HiRA: the elementwise product of the weight and a low-rank matrix.

    D = W * (B A)              A: r x in, of a convolution r x in x kernel; B: out x r
    an embedding W (tokens x size) adds W * (B A)^T        A: r x tokens, B: size x r

Sources: Huang et al. 2025 (HiRA, ICLR); ``peft`` 0.21.2, ``tuners/hira/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftHira
from adpm.runtime.methods.layer import CONVOLUTIONS, DeltaPart, Place, Seen, Tensors
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["HiraPart"]


class HiraPart(DeltaPart):
    """Slots: ``A``, ``B``."""

    CONVOLVED = tuple(CONVOLUTIONS)
    EMBEDDED = True

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftHira", config).hira_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftHira", config)
        rank = by_pattern(config.rank_pattern, place.name, config.r)
        if isinstance(place.module, nn.Embedding):
            a, b, word = (rank, place.inputs), (place.outputs, rank), "hira_embedding_"
            return Slot("A", f"{word}A", a), Slot("B", f"{word}B", b)
        inputs = place.inputs // math.prod(place.kernel)
        ones = (1,) * len(place.kernel)
        return (
            Slot("A", "hira_A", (rank, inputs, *place.kernel)),
            Slot("B", "hira_B", (place.outputs, rank, *ones)),
        )

    @classmethod
    def start(cls, config: PeftMethod, place: Place, tensors: Tensors, generator: Generator | None) -> None:
        a, b, way = tensors["A"], tensors["B"], cast("PeftHira", config).init_weights
        for tensor in (a, b):
            nn.init.normal_(tensor, generator=generator)
        if not way:
            return
        if isinstance(place.module, nn.Embedding):
            nn.init.zeros_(a)
            return
        nn.init.zeros_(b)
        if way == "gaussian":
            a /= len(a)
        else:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        if not isinstance(seen.layer, nn.Embedding):
            return super().after(seen, output)
        factors = functional.embedding(seen.x, self["A"].T) @ self["B"].T
        return output + functional.embedding(seen.x, seen.layer.weight) * factors

    def delta(self, weight: Tensor) -> Tensor:
        return weight * (self["B"].flatten(1) @ self["A"].flatten(1))
