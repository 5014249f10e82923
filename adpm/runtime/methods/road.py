"""RoAd: pairs of outputs are turned and scaled.

    y' = y * c1 + J(y) * c2        J: in each group of g outputs, (first half, second half) to (-second, first)
    road_1: c1, c2 = a cos t, a sin t with one a, t for both of a pair;  road_2: for each output;
    road_4: c1, c2 of their own: a, t are given as groups of (2, g)

Sources: Liao et al. 2024 (2409.00119); ``peft`` 0.21.2, ``tuners/road/layer.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftRoad
from adpm.runtime.methods.layer import Folded, MethodPart, Place, Seen, Tensors, misfit

__all__ = ["RoadPart"]


class RoadPart(MethodPart):
    """Slots: ``theta``, ``alpha``, each out / 2, out or 2 out."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftRoad", config)
        self.variant, self.group = config.variant, config.group_size

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftRoad", config)
        if place.outputs % config.group_size or config.group_size % 2:
            raise misfit(place, f"group_size {config.group_size} must be even and divide its outputs")
        size = {"road_1": place.outputs // 2, "road_2": place.outputs, "road_4": place.outputs * 2}[config.variant]
        return Slot("theta", "road_theta", (size,)), Slot("alpha", "road_alpha", (size,))

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftRoad", config).init_weights:
            nn.init.zeros_(tensors["theta"])
            nn.init.ones_(tensors["alpha"])
        else:
            nn.init.normal_(tensors["theta"], std=0.5, generator=generator)
            nn.init.normal_(tensors["alpha"], mean=1.0, std=0.5, generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:  # noqa: ARG002 - the output alone is turned
        return self._turn(output)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return self._turn(weight.T).T, None if bias is None else self._turn(bias)

    def _turn(self, y: Tensor) -> Tensor:
        first, second = self._columns()
        halves = y.unflatten(-1, (-1, 2, self.group // 2))
        turned = torch.stack((-halves[..., 1, :], halves[..., 0, :]), dim=-2).reshape(y.shape)
        return y * first + turned * second

    def _columns(self) -> tuple[Tensor, Tensor]:
        """c1 and c2."""
        theta, alpha = self["theta"], self["alpha"]
        if self.variant == "road_4":
            angle, size = theta.view(-1, 2, self.group), alpha.view(-1, 2, self.group)
            return (size[:, 0] * angle[:, 0].cos()).flatten(), (size[:, 1] * angle[:, 1].sin()).flatten()
        if self.variant == "road_1":
            theta, alpha = (t.view(-1, self.group // 2).repeat_interleave(2, dim=0).flatten() for t in (theta, alpha))
        return alpha * theta.cos(), alpha * theta.sin()
