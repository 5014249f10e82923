"""BEFT: a bias more.

    y + b                      b: 1 x out

Source: ``peft`` 0.21.2, ``tuners/beft/layer.py``.
"""

from __future__ import annotations

from typing import cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftBeft
from adpm.runtime.methods.layer import Folded, MethodPart, Place, Seen, Tensors

__all__ = ["BeftPart"]


class BeftPart(MethodPart):
    """Slot: ``bias``."""

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:  # noqa: ARG003 - it has no sizes of its own
        return (Slot("bias", "beft_bias", (1, place.outputs)),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftBeft", config).init_weights:
            nn.init.zeros_(tensors["bias"])
        else:
            nn.init.normal_(tensors["bias"], generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:  # noqa: ARG002 - the input does not matter
        return output + self["bias"].flatten().to(output.dtype)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        own = self["bias"].flatten()
        return weight, own if bias is None else bias + own
