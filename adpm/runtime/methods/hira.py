"""HiRA: the elementwise product of the weight and a low-rank matrix.

    D = W * (B A)              A: r x in, B: out x r

Sources: Huang et al. 2025 (HiRA, ICLR); ``peft`` 0.21.2, ``tuners/hira/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftHira
from adpm.runtime.methods.layer import DeltaPart, Place, Tensors
from adpm.runtime.methods.patterns import by_pattern

__all__ = ["HiraPart"]


class HiraPart(DeltaPart):
    """Slots: ``A``, ``B``."""

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftHira", config).hira_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftHira", config)
        rank = by_pattern(config.rank_pattern, place.name, config.r)
        return Slot("A", "hira_A", (rank, place.inputs)), Slot("B", "hira_B", (place.outputs, rank))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        a, b, way = tensors["A"], tensors["B"], cast("PeftHira", config).init_weights
        if way is True:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        else:
            nn.init.normal_(a, std=1 / len(a) if way else 1.0, generator=generator)
        if way:
            nn.init.zeros_(b)
        else:
            nn.init.normal_(b, generator=generator)

    def delta(self, weight: Tensor) -> Tensor:
        return weight * (self["B"] @ self["A"])
