"""LoRA on an embedding, as PEFT computes it.

    E'[t] = E[t] + s * scale * A[:, t]^T B^T           A: r x tokens, B: size x r, s: what the embedding multiplies by
    DoRA:  (m / |W + scale * (B A)^T|) * E'[t]          norm over the tokens, m: size

Source: ``peft`` 0.21.2, ``tuners/lora/layer.py`` (``Embedding``) and ``dora.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.runtime.methods.layer import LayerPart, Seen
from adpm.runtime.methods.tokens import scale_of

__all__ = ["EmbeddingPart", "start_embedding"]


class EmbeddingPart(LayerPart):
    """Slots: ``A``, ``B``, with DoRA ``magnitude``."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], layer: str, scale: float) -> None:
        super().__init__(adapter, names, layer)
        self.scale = scale

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        a, b = self["A"], self["B"]
        change = functional.linear(functional.embedding(seen.x, a.T), b)
        output = output + change * (scale_of(seen.layer) * self.scale)
        magnitude = self.get("magnitude")
        return output if magnitude is None else output * (magnitude / _norm(seen.layer, a, b, self.scale))


def _norm(layer: nn.Module, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The norm of each feature over all tokens; no gradients go through it. Shape: size."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError("an embedding's weight is a tensor")
    norm: Tensor = torch.linalg.norm(weight + scale * (b @ a).T.detach(), dim=0)
    return norm.detach()


def start_embedding(
    start: bool | str, layer: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None
) -> None:
    """A of zeros and B of normal values, as for embeddings; both normal where ``start`` is false."""
    for name in ("A", "B"):
        if name == "A" and start is not False:
            nn.init.zeros_(tensors[name])
        else:
            nn.init.normal_(tensors[name], generator=generator)
    if "magnitude" in tensors:
        weight = layer.weight
        if isinstance(weight, Tensor):
            tensors["magnitude"].copy_(torch.linalg.norm(weight, dim=0))
