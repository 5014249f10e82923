"""Invertible adapters: a coupling block on the embeddings, undone before a language-modelling head.

    nice    y1 = x1 + F(x2),  y2 = x2 + G(y1)
    glow    y1 = e(s) x1 + t with (s, t) = s2(x2),  y2 = e(s) x2 + t with (s, t) = s1(y1),  e(s) = exp(3.18 atan(s / 5))

x = (x1, x2) is split in the last dimension; F, G, s1, s2 are two linear layers with the adapter's activation between.
Sources: Dinh et al. 2014, Kingma and Dhariwal 2018; ``adapters`` 1.3.0, ``methods/modeling.py``. The peer's GLOW block
splits along the tokens and fails on every text: here it does what its inverse says it meant.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.formats.adapterhub_methods import Bottleneck
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.methods.bottleneck import start_activation
from adpm.runtime.part import Part

__all__ = ["InversePart", "start_inverse"]

_CLAMP = 5.0


class InversePart(Part):
    """One coupling block. Slots: ``formats.adapterhub_tensors.inverse_slots``."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: Bottleneck) -> None:
        super().__init__(adapter, names)
        self.config = config
        self._activate = ACTIVATIONS[config.non_linearity]
        self._activation_weights = tuple(ACTIVATION_WEIGHTS[config.non_linearity])

    def forwards(self, x: Tensor) -> Tensor:
        """x and y: batch x tokens x embedding."""
        half = x.shape[-1] // 2
        x1, x2 = x[..., :half], x[..., half:]
        if self.config.inv_adapter == "nice":
            y1 = x1 + self._network("F", x2)
            return torch.cat((y1, x2 + self._network("G", y1)), -1)
        s, t = torch.split(self._network("s2", x2), half, -1)
        y1 = _strength(s) * x1 + t
        s, t = torch.split(self._network("s1", y1), x2.shape[-1], -1)
        return torch.cat((y1, _strength(s) * x2 + t), -1)

    def backwards(self, y: Tensor) -> Tensor:
        """The x whose image is ``y``."""
        half = y.shape[-1] // 2
        y1, y2 = y[..., :half], y[..., half:]
        if self.config.inv_adapter == "nice":
            x2 = y2 - self._network("G", y1)
            return torch.cat((y1 - self._network("F", x2), x2), -1)
        s, t = torch.split(self._network("s1", y1), y2.shape[-1], -1)
        x2 = (y2 - t) / _strength(s)
        s, t = torch.split(self._network("s2", x2), half, -1)
        return torch.cat(((y1 - t) / _strength(s), x2), -1)

    def _network(self, name: str, x: Tensor) -> Tensor:
        inner = functional.linear(x, self[f"{name}_in_weight"], self[f"{name}_in_bias"])
        inner = self._activate(inner, *(self[f"{name}_activation_{key}"] for key in self._activation_weights))
        return functional.linear(inner, self[f"{name}_out_weight"], self[f"{name}_out_bias"])


def _strength(s: Tensor) -> Tensor:
    return torch.exp(_CLAMP * 0.636 * torch.atan(s / _CLAMP))


def start_inverse(config: Bottleneck, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    for name, tensor in tensors.items():
        if "_activation_" in name:
            start_activation(config.non_linearity, name.split("_", 1)[1], tensor)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
        else:
            nn.init.normal_(tensor, std=0.02, generator=generator)
