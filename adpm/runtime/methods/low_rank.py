"""Low-rank changes of a linear layer y = x W^T + b: LoRA, DoRA, VeRA and (IA)3's vectors, as both peers compute them.

    delta(x) = (drop(x) A^T B^T + c) * scale          A: r x in, B: out x r, c: out (PEFT's lora_bias, else 0)
    vera       A, B shared and frozen:  A := D A0, B := V B0        D: r x r, V: out x out
    gate       sigmoid(x g^T + g0), meaned over the tokens, instead of the scale (AdapterHub)

    add        y + delta(x)
    scale      y * (v * alpha)                        v: out
    dora       AdapterHub: m / |W + BA| * (y + delta(x));   PEFT: the same without b, with scale * BA in the norm,
               b added last;  the norm is over the rows of W, m: out

A stack of AdapterHub's feeds the first's delta to the second and adds the last's alone; PEFT's add up, each on x.
Sources: Hu et al. 2021, Liu et al. 2024, Kopiczko et al. 2023, Liu et al. 2022; ``adapters`` 1.3.0,
``methods/lora.py``; ``peft`` 0.21.2, ``tuners/lora/layer.py`` and ``dora.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.runtime.methods.layer import Folded, LayerPart, Seen, weight_of
from adpm.runtime.part import Part

__all__ = ["PAIR", "LowRankOptions", "LowRankPart", "SharedPairPart", "run_low_ranks", "start_low_rank"]

PAIR: Final = "shared/pair"  # the key of the part that VeRA's layers share


@dataclass(frozen=True, slots=True)
class LowRankOptions:
    """What the formula above needs beside tensors. ``chained``: AdapterHub's meaning of a stack and of DoRA."""

    scale: float
    dropout: float
    chained: bool
    multiplies: bool = False
    dora: bool = False
    gated: bool = False
    vera: bool = False


class SharedPairPart(Part):
    """VeRA's A0 and B0, one pair for all layers; never trained."""

    def make_trainable(self) -> None:
        """Nothing: the pair is random and stays."""


class LowRankPart(LayerPart):
    """The change of one linear layer, the module called ``layer``."""

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, options: LowRankOptions) -> None:
        super().__init__(adapter, names, layer)
        self.options = options
        self._parts: Mapping[str, Part] = adapter.parts  # of the same adapter, for VeRA's pair

    @property
    def is_plain(self) -> bool:
        """Whether it is LoRA and nothing more, whatever its stack means."""
        options = self.options
        special = options.multiplies or options.dora or options.gated or options.vera
        return not special and "c" not in self

    def pair(self) -> tuple[Tensor, Tensor]:
        """A and B of the formula."""
        if not self.options.vera:
            return self["A"], self["B"]
        common = self._parts[PAIR]
        return self["vera_D"] @ common["A"], self["vera_B"] @ common["B"]

    def delta(self, x: Tensor, layer_input: Tensor) -> Tensor:
        """The formula's delta; ``layer_input`` is what a gate looks at."""
        options = self.options
        if options.multiplies:
            out = self["vector"].view(-1)
        else:
            a, b = self.pair()
            out = functional.linear(functional.linear(self.dropped(x), a), b, self.get("c"))
        if options.gated:
            gate = torch.sigmoid(functional.linear(layer_input, self["gate_weight"], self["gate_bias"]))
            return out * gate.mean(dim=1, keepdim=True)
        return out * options.scale

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        return run_low_ranks((self,), seen.layer, seen.bias, seen.x, output)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        options = self.options
        if options.gated:
            return super().fold_output(weight, bias)
        if options.multiplies:
            scale = self["vector"].view(-1) * options.scale
            return weight * scale.unsqueeze(1), None if bias is None else bias * scale
        a, b = self.pair()
        change, extra = b @ a, self.get("c")
        extra = None if extra is None else extra * options.scale
        if not options.dora:
            return weight + change * options.scale, _sum(bias, extra)
        if options.chained:
            factor = self["magnitude"].view(-1) / torch.linalg.norm(weight + change, dim=1)
            new = (weight + change * options.scale) * factor.unsqueeze(1)
            return new, None if bias is None else bias * factor
        new = weight + change * options.scale
        factor = self["magnitude"].view(-1) / torch.linalg.norm(new, dim=1)
        return new * factor.unsqueeze(1), _sum(bias, None if extra is None else extra * factor)

    def dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.options.dropout) if self.options.dropout and self.training else x

    def combine(self, layer: nn.Module, output: Tensor, delta: Tensor) -> Tensor:
        """The last line of AdapterHub's formula."""
        if self.options.multiplies:
            return output * delta
        output = output + delta
        if self.options.dora:
            a, b = self.pair()
            norm = torch.linalg.norm(weight_of(layer) + b @ a, dim=1)
            output = output * (self["magnitude"].view(-1) / norm)
        return output

    def add_dora(self, layer: nn.Module, bias: Tensor | None, x: Tensor, output: Tensor) -> Tensor:
        """PEFT's DoRA added to ``output``; dropout is on both ways through the layer, as there."""
        a, b = self.pair()
        weight, scale = weight_of(layer), self.options.scale
        norm = torch.linalg.norm(weight + scale * (b @ a).detach(), dim=1).detach()
        factor: Tensor = self["magnitude"].view(-1) / norm
        if self.options.dropout and self.training:
            x = self.dropped(x)
            plain = functional.linear(x, weight)
        else:
            plain = output if bias is None else output - bias
        change = functional.linear(functional.linear(x, a), b, self.get("c"))
        return output + (factor - 1) * plain + factor * change * scale


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second


def run_low_ranks(
    parts: Sequence[LowRankPart], layer: nn.Module, bias: Tensor | None, x: Tensor, output: Tensor
) -> Tensor:
    """The layer's output under a stack of ``parts``; ``bias`` is the bias that ``output`` has."""
    delta, last = None, None
    for part in parts:
        if part.options.chained:
            if delta is not None and part.options.multiplies:
                delta = delta * part.delta(delta, x)
            else:
                delta = part.delta(x if delta is None else delta, x)
            last = part
        elif part.options.dora:
            output = part.add_dora(layer, bias, x, output)
        else:
            output = output + part.delta(x, x)
    return output if last is None or delta is None else last.combine(layer, output, delta)


def start_low_rank(
    init: str, layer: nn.Module | None, tensors: Mapping[str, Tensor], generator: Generator | None
) -> None:
    """Fill new tensors as AdapterHub's ``init_weights`` says; "lora" is PEFT's default too, "both" its ``false``."""
    for name, tensor in tensors.items():
        if name == "magnitude" and layer is not None:
            tensor.copy_(torch.linalg.norm(weight_of(layer), dim=1).view_as(tensor))
        elif name in ("c", "gate_bias"):
            nn.init.zeros_(tensor)
        elif name == "vector" or init == "ia3":
            nn.init.ones_(tensor)
        elif name == "gate_weight" or init == "bert":
            nn.init.normal_(tensor, std=0.02, generator=generator)
        elif init == "vera":
            nn.init.kaiming_uniform_(tensor, generator=generator)
        elif name == "A" or init == "both":
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        else:
            nn.init.zeros_(tensor)


def start_vera(config_d: float, config_b: float, tensors: Mapping[str, Tensor]) -> None:
    """D and V start as multiples of the identity."""
    for name, value in (("vera_D", config_d), ("vera_B", config_b)):
        if name in tensors:
            tensors[name].copy_(torch.eye(len(tensors[name])) * value)
