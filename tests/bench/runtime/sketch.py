"""The least that an adapter's own operations take: written by hand into a BERT, without a library around them.

Every operation is one that the outputs need, in the form that torch runs fastest here: a Pfeiffer as one more norm and
two products that are added into the sum of sub-layer and residual, a LoRA as two products that are added into the
layer's output, rows of several adapters as one product for all. No hook, no plan, no look at shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.runtime.base import same_weights

__all__ = ["sketched"]

_WAYS: Final = ("down", "up")


class _Pfeiffers(nn.Module):
    """A layer's output with Pfeiffers one after the other."""

    def __init__(self, output: Any, parts: Sequence[Any]) -> None:
        super().__init__()
        self.dense, self.norm = output.dense, output.LayerNorm
        self.parts = [tuple(part[f"{way}_{slot}"] for way in _WAYS for slot in ("weight", "bias")) for part in parts]

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        total: Tensor = self.dense(hidden).add_(residual)
        for down, down_bias, up, up_bias in self.parts:
            z = functional.linear(self.norm(total), down, down_bias).relu_()
            total.add_(functional.linear(z, up, up_bias))
        out: Tensor = self.norm(total)
        return out


class _MixedPfeiffers(nn.Module):
    """A layer's output with another Pfeiffer for each part of the batch."""

    def __init__(self, output: Any, parts: Sequence[Any]) -> None:
        super().__init__()
        self.dense, self.norm = output.dense, output.LayerNorm
        self.down, self.up = (torch.stack([part[f"{way}_weight"].T for part in parts]) for way in _WAYS)
        self.biases = [torch.stack([part[f"{way}_bias"] for part in parts]).unsqueeze(1) for way in _WAYS]

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        total: Tensor = self.dense(hidden).add_(residual)
        shape = (len(self.down), -1, total.shape[-1])
        z = torch.baddbmm(self.biases[0], self.norm(total).view(shape), self.down).relu_()
        total.view(shape).add_(torch.baddbmm(self.biases[1], z, self.up))
        out: Tensor = self.norm(total)
        return out


class _Loras(nn.Module):
    """A linear layer with a LoRA for each part of the batch, or one for all of it."""

    def __init__(self, linear: nn.Module, parts: Sequence[Any]) -> None:
        super().__init__()
        self.linear = linear
        self.a = torch.stack([part["A"].T for part in parts])
        self.b = torch.stack([part["B"].T * part.options.scale for part in parts])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        if len(self.a) == 1:
            out.view(-1, out.shape[-1]).addmm_(x.view(-1, x.shape[-1]) @ self.a[0], self.b[0])
        else:
            shape = (len(self.a), -1, x.shape[-1])
            out.view(shape).baddbmm_(torch.bmm(x.view(shape), self.a), self.b)
        return out


def sketched(bare: Any, kind: str, adapters: Sequence[Any], *, mixed: bool = False) -> Any:
    """A copy of ``bare`` with ``adapters`` written into it, one after the other or, if ``mixed``, for as many equal
    parts of the batch. ``kind``: "pfeiffer", or "lora" on queries and values."""
    model = same_weights(bare)
    for number, layer in enumerate(model.encoder.layer):
        below = f"encoder/layer/{number}"
        if kind == "pfeiffer":
            parts = [adapter.parts[f"{below}/output"] for adapter in adapters]
            layer.output = (_MixedPfeiffers if mixed else _Pfeiffers)(layer.output, parts)
            continue
        attention = layer.attention.self
        for word in ("query", "value"):
            found = [adapter.parts[f"{below}/attention/self/{word}"] for adapter in adapters]
            setattr(attention, word, _Loras(getattr(attention, word), found))
    return model.eval()
