"""Uni-LoRA: every entry of every layer's A and B is an entry of one vector that they all share.

    A[i, j] = theta[a[i, j]] / sqrt(c[a[i, j]])         theta: d; a: r x in and b: out x r, places in theta
    B likewise from b;  y + (drop(x) A^T) B^T           c: how often a place is used, in all layers

Each place is used as often as any other, or once more; which stands where is shuffled by a seed, over all layers' A and
B in the model's order, or in the file. Sources: "Uni-LoRA: One Vector Is All You Need" (2506.00799); ``peft`` 0.21.2,
``tuners/unilora/layer.py`` and ``model.py``.
"""

from __future__ import annotations

import math
from typing import Final, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftUniLora
from adpm.runtime.methods.layer import PairPart, Place, Tensors

__all__ = ["LAYOUT", "THETA", "UniLoraPart", "layout_slots", "start_layout", "start_theta", "theta_slots"]

THETA: Final = "shared/theta"
LAYOUT: Final = "shared/layout"
_SCALES: Final = "scales"


def theta_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:  # noqa: ARG001 - a shared part's
    """The vector; its name follows ``base_model.``."""
    return (Slot("theta", "unilora_theta_d", (cast("PeftUniLora", config).theta_d_length,)),)


def start_theta(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:
    config = cast("PeftUniLora", config)
    if config.init_weights:
        bound = config.init_theta_d_bound
        nn.init.uniform_(tensors["theta"], -bound, bound, generator=generator)
    else:
        nn.init.normal_(tensors["theta"], generator=generator)


def layout_slots(config: PeftMethod, places: list[Place]) -> tuple[Slot, ...]:
    """The places of all layers by their numbers, and the scale of each place, where no file holds them."""
    config = cast("PeftUniLora", config)
    if config.save_indices:
        return ()
    found = [
        Slot(f"{name}{place.number}", f"unilora_indices_{name}.{place.number}", shape, below=(config.theta_d_length,))
        for place in places
        for name, shape in _shapes(config, place).items()
    ]
    return (*found, Slot(_SCALES, "unilora_scales", (config.theta_d_length,)))


def start_layout(config: PeftMethod, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG001 - its seed decides
    """The peer's order of numpy's random numbers."""
    config = cast("PeftUniLora", config)
    if not tensors:
        return
    length = config.theta_d_length
    indices = {name: tensor for name, tensor in tensors.items() if name != _SCALES}
    often, rest = divmod(sum(math.prod(tensor.shape) for tensor in indices.values()), length)
    own = np.random.default_rng(config.proj_seed)
    order = np.repeat(np.arange(length), often)
    if rest:
        order = np.concatenate([order, own.choice(length, size=rest, replace=False)])
    own.shuffle(order)
    shuffled = torch.from_numpy(order)
    begin = 0
    for tensor in indices.values():
        tensor.copy_(shuffled[begin : begin + tensor.numel()].view(tensor.shape))
        begin += tensor.numel()
    counts = torch.bincount(shuffled, minlength=length)
    tensors[_SCALES].copy_(torch.where(counts > 0, counts.clamp(min=1).float().rsqrt(), 0.0))


def _shapes(config: PeftUniLora, place: Place) -> dict[str, tuple[int, int]]:
    return {"A": (config.r, place.inputs), "B": (place.outputs, config.r)}


class UniLoraPart(PairPart):
    """Slots, where the file holds them: ``A_places``, ``B_places``, ``A_scales``, ``B_scales``."""

    FROZEN = frozenset({"A_places", "B_places", "A_scales", "B_scales"})

    def setup(self, config: PeftMethod) -> None:
        self.dropout = cast("PeftUniLora", config).unilora_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftUniLora", config)
        if not config.save_indices:
            return ()
        return tuple(
            slot
            for name, shape in _shapes(config, place).items()
            for slot in (
                Slot(f"{name}_places", f"unilora_indices_{name}", shape, below=(config.theta_d_length,)),
                Slot(f"{name}_scales", f"unilora_scales_{name}", shape),
            )
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:  # noqa: ARG003 - nothing to fill
        if tensors:
            raise AdapterError(
                "method-unsupported",
                "a new UNILORA can't start with save_indices",
                cause="which entry stands where is made from proj_seed, for all layers at once",
                hint="leave save_indices out; files that have it are read",
            )

    def pair(self) -> tuple[Tensor, Tensor]:
        return self._made("A"), self._made("B")

    def _made(self, name: str) -> Tensor:
        theta: Tensor = self._parts[THETA]["theta"]
        if f"{name}_places" in self:
            return theta[self[f"{name}_places"].long()] * self[f"{name}_scales"]
        layout = self._parts[LAYOUT]
        places = layout[f"{name}{self.place.number}"].long()
        return theta[places] * layout[_SCALES][places]
