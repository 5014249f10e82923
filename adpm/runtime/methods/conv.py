"""LoRA on a convolution, as PEFT computes it.

    y + scale * conv_1x1(conv(drop(x), A), B)         A: r x in x kernel, B: out x r x 1 x 1
    DoRA:  f * (y - b) + f * scale * (...) + b        f = m / |W + scale * BA|, m: 1 x out x 1 x 1

The norm is over inputs and kernel; A has the layer's stride and padding, B its groups. Source: ``peft`` 0.21.2,
``tuners/lora/layer.py`` (``_ConvNd``) and ``dora.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.runtime.methods.layer import CONVOLUTIONS, LayerPart, Seen
from adpm.runtime.methods.low_rank import LowRankOptions

__all__ = ["ConvPart", "conv_slots", "start_conv"]


def conv_slots(layer: nn.Module, rank: int, *, dora: bool, bias: bool) -> tuple[Slot, ...]:
    """The tensors for one convolution."""
    conv = cast("nn.Conv2d", layer)
    ones = (1,) * len(conv.kernel_size)
    slots = [
        Slot("A", "lora_A.weight", (rank, conv.in_channels, *conv.kernel_size)),
        Slot("B", "lora_B.weight", (conv.out_channels, rank // conv.groups, *ones)),
    ]
    if bias:
        slots.append(Slot("c", "lora_B.bias", (conv.out_channels,)))
    if dora:
        slots.append(Slot("magnitude", "lora_magnitude_vector", (1, conv.out_channels, *ones)))
    return tuple(slots)


class ConvPart(LayerPart):
    """Slots: :func:`conv_slots`."""

    def __init__(
        self, adapter: nn.Module, names: Mapping[str, str], layer: str, options: LowRankOptions, module: nn.Module
    ) -> None:
        super().__init__(adapter, names, layer)
        self.options = options
        self._run = CONVOLUTIONS[type(module)]

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        conv, options = cast("nn.Conv2d", seen.layer), self.options
        dropping = bool(options.dropout) and self.training
        x = functional.dropout(seen.x, options.dropout) if dropping else seen.x
        inner = self._run(x, self["A"], None, conv.stride, conv.padding)
        change: Tensor = self._run(inner, self["B"], self.get("c"), groups=conv.groups) * options.scale
        magnitude = self.get("magnitude")
        if magnitude is None:
            return output + change
        factor = magnitude / _norm(conv.weight, self["A"], self["B"], options.scale)
        ones = (1, -1) + (1,) * (output.dim() - 2)
        bias = 0 if seen.bias is None else seen.bias.view(ones)
        plain: Tensor = output - bias
        if dropping:
            plain = self._run(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        return output + (factor - 1) * plain + factor * change


def _norm(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """|W + scale * BA| by output; no gradients go through it. Shape: 1 x out x 1 x 1."""
    change = (b.flatten(1) @ a.flatten(1)).view(weight.shape).detach()
    dims = tuple(range(1, weight.dim()))
    norm: Tensor = torch.linalg.vector_norm(weight + scale * change, dim=dims, keepdim=True)
    return norm.transpose(0, 1).detach()


def start_conv(start: bool | str, layer: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """A as torch starts a convolution, B of zeros."""
    for name, tensor in tensors.items():
        if name == "c" or (name == "B" and start is not False):
            nn.init.zeros_(tensor)
        elif name == "A" and start == "gaussian":
            nn.init.normal_(tensor, std=1 / len(tensor), generator=generator)
        elif name in ("A", "B"):
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
    if "magnitude" in tensors:
        weight = cast("nn.Conv2d", layer).weight
        dims = tuple(range(1, weight.dim()))
        norm = torch.linalg.vector_norm(weight, dim=dims, keepdim=True).transpose(0, 1)
        tensors["magnitude"].copy_(norm)
