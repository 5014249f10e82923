"""DEFT: a subspace of the weight's outputs is taken out, and something else put in.

    D = Q (s R - U^T W)        Q, U: out x r, R: r x in; s = alpha / r, or 1 without alpha
    relu     Q = P, U = relu(P)                    P: out x r
    qr       Q = U = the orthonormal Q of P's QR decomposition
    para     without R (PaRa)

r is at most out. Sources: ``peft`` 0.21.2, ``tuners/deft/layer.py``; PaRa: Chen et al. 2024.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftDeft
from adpm.runtime.methods.layer import DeltaPart, Place, Seen, Tensors, weight_of

__all__ = ["DeftPart"]


class DeftPart(DeltaPart):
    """Slots: ``P``, and ``R`` unless ``para``."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftDeft", config)
        self.method, self.scale = config.decomposition_method, _scale(config, self.place)
        self.dropout = config.deft_dropout

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftDeft", config)
        rank = min(config.r, place.outputs)
        removed = Slot("P", "deft_P", (place.outputs, rank))
        return (removed,) if config.para else (removed, Slot("R", "deft_R", (rank, place.inputs)))

    @classmethod
    def start(cls, config: PeftMethod, place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftDeft", config)
        nn.init.normal_(tensors["P"], std=0.02, generator=generator)
        if config.para:
            return
        if config.init_weights:
            _, right = _sides(tensors["P"], config.decomposition_method)
            own = weight_of(place.module).to(right)
            tensors["R"].copy_(right.T @ own / _scale(config, place))
        else:
            nn.init.normal_(tensors["R"], std=0.02 * config.init_scale, generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        """Dropout is for what is put in alone."""
        if not (self.dropout and self.training and "R" in self.names):
            return super().after(seen, output)
        left, right = _sides(self["P"], self.method)
        x, own = seen.x.float(), weight_of(seen.layer).float()
        put = functional.linear(functional.dropout(x, self.dropout), self["R"].float() * self.scale)
        change = (put - functional.linear(x, right.T @ own)) @ left.T
        return output + change.to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        left, right = _sides(self["P"], self.method)
        inner = -(right.T @ weight.float())
        if "R" in self.names:
            inner = inner + self["R"].float() * self.scale
        return left @ inner


def _sides(p: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Q and U, in float32 as a QR decomposition needs it."""
    p = p.float()
    if method == "relu":
        return p, torch.relu(p)
    q = torch.linalg.qr(p)[0]
    return q, q


def _scale(config: PeftDeft, place: Place) -> float:
    return config.alpha / min(config.r, place.outputs) if config.alpha else 1.0
