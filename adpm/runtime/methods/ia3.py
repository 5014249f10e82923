"""(IA)3 in PEFT's form: a vector that scales a layer's output, or the input of what the config calls feed-forward.

    y = (x W^T + b) * l            l: out x 1
    y = (x * l) W^T + b            l: 1 x in

On a convolution l is 1 x out x 1 x 1 and 1 x in x 1 x 1.
Sources: Liu et al. 2022 (2205.05638); ``peft`` 0.21.2, ``tuners/ia3/layer.py``.
"""

from __future__ import annotations

import math
import re
from typing import cast

from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftIa3
from adpm.runtime.methods.layer import Folded, MethodPart, Place, Seen, Tensors, by_output

__all__ = ["Ia3Part"]


class Ia3Part(MethodPart):
    """Slot: ``l``."""

    CONVOLVED = (nn.Conv2d, nn.Conv3d)

    def setup(self, config: PeftMethod) -> None:
        self.feeds = _feeds(cast("PeftIa3", config), self.place.name)

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        feeds = _feeds(cast("PeftIa3", config), place.name)
        shape = (1, place.inputs) if feeds else (place.outputs, 1)
        if place.kernel:
            channels = getattr(place.module, "in_channels" if feeds else "out_channels")
            shape = (1, channels, *(1,) * len(place.kernel))
        return (Slot("l", "ia3_l", shape),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftIa3", config).init_ia3_weights:
            nn.init.ones_(tensors["l"])
        else:
            nn.init.normal_(tensors["l"], generator=generator)

    @property
    def moves_input(self) -> bool:
        return self.feeds

    def before(self, x: Tensor) -> Tensor:
        return x * by_output(self.place.module, self["l"].view(-1)) if self.feeds else x

    def after(self, seen: Seen, output: Tensor) -> Tensor:  # noqa: ARG002 - the output alone is scaled
        return output if self.feeds else output * by_output(self.place.module, self["l"].view(-1))

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        if self.feeds:
            return weight, bias
        return weight * self["l"].view(-1, 1), None if bias is None else bias * self["l"].view(-1)

    def fold_input(self, weight: Tensor) -> Tensor:
        if not self.feeds:
            return weight
        scale = self["l"].view(1, -1).repeat_interleave(math.prod(self.place.kernel), dim=1)
        if weight.shape[1] != scale.shape[1]:
            raise AdapterError("method-unsupported", f"what scales the input of {self.layer} goes through its groups")
        return weight * scale


def _feeds(config: PeftIa3, name: str) -> bool:
    modules = config.feedforward_modules
    return re.fullmatch(modules, name) is not None if isinstance(modules, str) else name.endswith(modules or ("\0",))
