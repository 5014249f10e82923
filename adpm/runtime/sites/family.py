"""What a table of sites says of a model family. Paths are dotted module names; layer paths start at the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Family", "Residual", "SubLayer"]


@dataclass(frozen=True, slots=True)
class Residual:
    """Where a sub-layer's input can be seen: an argument of the module at ``path``, by position or by keyword."""

    path: str
    position: int
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SubLayer:
    """``norm(hidden + residual)``: attention or feed-forward, after which a bottleneck may act.

    ``hidden`` is the module whose output (or first output) is added to the residual, after dropout; ``adapters`` is
    where AdapterHub keeps the adapters' weights.
    """

    hidden: str
    norm: str
    residual: Residual
    adapters: str


@dataclass(frozen=True, slots=True)
class Family:
    """One model family. ``sublayers`` go by the names of AdapterHub's options, ``linears`` by its LoRA locations."""

    model_type: str
    adapterhub_class: str
    embeddings: str
    layers: str
    sublayers: Mapping[str, SubLayer]
    linears: Mapping[str, str]  # "selfattn.q", ..., "intermediate", "output" -> path in the layer
    pooled: bool  # whether the base model has a pooler
