"""PEANuT: a small network makes the change of the weight out of the weight.

    D^T = s n(W^T) B^T         A: r x out, B: out x r, f: the activation
    n(w): h0 = f(w A^T), hi = f(h(i-1) Ei^T), then back: u = f(u Di^T) + h(depth - i) from u = h(depth) on

Source: ``peft`` 0.21.2, ``tuners/peanut/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftPeanut
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.methods.layer import DeltaPart, Place, Tensors

__all__ = ["PeanutPart"]


class PeanutPart(DeltaPart):
    """Slots: ``A``, ``B``, and ``E0``, ``D0`` ... for each layer; E and D are r x r."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftPeanut", config)
        self.depth, self.scale = config.depth, config.scaling
        self.activation = ACTIVATIONS[config.act_fn]

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftPeanut", config)
        rank, depth = config.r, config.depth
        return (
            Slot("A", "peanut_A.weight", (rank, place.outputs)),
            Slot("B", "peanut_B.weight", (place.outputs, rank)),
            *(Slot(f"E{i}", f"peanut_encoders.{i}.weight", (rank, rank)) for i in range(depth)),
            *(Slot(f"D{i}", f"peanut_decoders.{i}.weight", (rank, rank)) for i in range(depth)),
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        for name, tensor in tensors.items():
            if name == "B" and cast("PeftPeanut", config).init_weights:
                nn.init.zeros_(tensor)
            else:
                nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)

    def delta(self, weight: Tensor) -> Tensor:
        state = self.activation(weight.T.to(self["A"].dtype) @ self["A"].T)
        passed = []
        for i in range(self.depth):
            passed.append(state)
            state = self.activation(state @ self[f"E{i}"].T)
        for i in range(self.depth):
            state = self.activation(state @ self[f"D{i}"].T) + passed.pop()
        return self["B"] @ state.T * self.scale
