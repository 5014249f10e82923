"""Trainable tokens: vectors of the adapter's own in place of some of an embedding's.

    embedding   E'[t_i] = v_i * s          s: the scale that some embeddings multiply by
    output      y'[t_i] = x v_i^T + b_i    where the output layer's weight is the embedding's own

Source: ``peft`` 0.21.2, ``tuners/trainable_tokens/layer.py``; there an output layer loses its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.runtime.methods.layer import LayerPart, Seen
from adpm.runtime.part import Part

__all__ = ["TiedEmbeddingPart", "TiedOutputPart", "TokensPart", "scale_of"]


class TokensPart(LayerPart):
    """At an embedding of ``rows`` tokens. Slot: ``vectors``, [tokens, size]; ``ids`` are the tokens, each once."""

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, ids: tuple[int, ...], rows: int) -> None:
        super().__init__(adapter, names, layer)
        self.ids = torch.tensor(ids, dtype=torch.long)
        self.places = torch.full((rows,), -1, dtype=torch.long)
        self.places[self.ids] = torch.arange(len(ids))

    def vectors(self) -> Tensor:
        return self["vectors"]

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        places = self.places.to(seen.x.device)[seen.x]
        vectors = functional.embedding(places.clamp(min=0), self.vectors().to(output.dtype)) * scale_of(seen.layer)
        return torch.where((places >= 0).unsqueeze(-1), vectors, output)


class TiedEmbeddingPart(TokensPart):
    """The same at another embedding with the same weight; the vectors are those of the part ``key``."""

    def __init__(self, adapter: Any, names: Mapping[str, str], key: str, **place: Any) -> None:
        super().__init__(adapter, names, **place)
        self._key = key
        self._parts: Mapping[str, Part] = adapter.parts

    def vectors(self) -> Tensor:
        return self._parts[self._key]["vectors"]


class TiedOutputPart(TiedEmbeddingPart):
    """The same at an output layer with the same weight."""

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        ids = self.ids.to(output.device)
        scores = functional.linear(seen.x, self.vectors().to(seen.x.dtype))
        return output.index_copy(-1, ids, scores if seen.bias is None else scores + seen.bias[ids])


def scale_of(layer: nn.Module) -> Tensor | float:
    """What an embedding multiplies its vectors by: 1, or what models such as Gemma and BART keep with it."""
    scale = getattr(layer, "embed_scale", None)
    return scale if isinstance(scale, (Tensor, float)) else 1.0
