"""AdapterFusion: attention over what several adapters would add, at each token.

    u_i    = what adapter i adds: its ``raised`` (``methods/bottleneck.py``)         batch x tokens x hidden
    v_i    = u_i, or u_i + s (residual_before)
    p      = softmax_i((Q q + q0) . (K v_i + k0) / T)
    h'     = sum_i p_i V v_i + s          without the last s where residual_before; V may be applied to the sum instead

q is the x of the last adapter (its h with query_before_ln), s its residual. Q, K and V may each be missing, and are the
identity then. T is 1, or with ``temperature`` starts at 50 and falls by 0.05 with each training step to 1.

The cheap form, exact for fixed weights. With z_i the activated down-projection, u_i = s_i (U_i z_i + b_i), which is
E_i (z_i; 1). What is the same for all i leaves the softmax: k0, and s in v_i. So the score is
(q^T Q^T K E_i + q0^T K E_i) (z_i; 1) / T with M_i = Q^T K E_i multiplied once, and since p adds up to one,
h' = sum_i p_i (V E_i) (z_i; 1) + V s or + s, with V E_i multiplied once. The way down and M_i are one product, the way
up is another: n (3 u + 2) h products a token instead of n (2 u h + 2 h^2) + h^2.

Sources: Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247; ``adapters`` 1.3.0, ``methods/modeling.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_fusion import FusionConfig
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.part import Part, state_of

__all__ = ["HOT", "FusionPart", "start_fusion"]

HOT: Final = 50.0  # the temperature at which training starts
_COOLING: Final = HOT / 1000.0
_DIAGONAL: Final = 1e-6  # beside the ones of a new value matrix, as in the peer


class _Folded(NamedTuple):
    """The cheap form's products; ``sources``: the tensors they were made of, which stay alive so that the key holds."""

    key: tuple[object, ...]
    sources: tuple[Tensor, ...]
    first: Tensor  # n (2 u + 1) x h: all ways down, then all M
    first_bias: Tensor
    second: Tensor  # h x n (u + 1): all V E, the last column of each for the bias
    units: int
    branches: int


class FusionPart(Part):
    """The fusion at one place. Slots: ``formats.adapterhub_fusion.fusion_slots``."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: FusionConfig, dropout: float) -> None:
        super().__init__(adapter, names)
        self.config = config
        self.dropout = dropout
        self.temperature = HOT if config.temperature else 1.0
        self._folded: _Folded | None = None

    def mix(self, query: Tensor, x: Tensor, parts: Sequence[BottleneckPart], residual: Tensor | None) -> Tensor:
        """h' of the fused ``parts`` at x; without ``residual`` what they add to it."""
        folded = self._fold(parts)
        if folded is None:
            return self.weigh(query, [part.raised(x) for part in parts], residual)
        out = self._cheap(folded, query, x, parts)
        if residual is None:
            return out
        if self.config.residual_before and self.config.value:
            return out + functional.linear(residual, self["value_weight"])
        return out + residual

    def weigh(self, query: Tensor, raised: Sequence[Tensor], residual: Tensor | None) -> Tensor:
        """The plain form, from the u_i; without ``residual`` there is none."""
        config = self.config
        values = torch.stack(tuple(raised), dim=-2)  # ... x n x h
        if config.residual_before and residual is not None:
            values = values + residual.unsqueeze(-2)
        if config.query:
            query = functional.linear(query, self["query_weight"], self["query_bias"])
        keys = functional.linear(values, self["key_weight"], self["key_bias"]) if config.key else values
        scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
        if self.training:
            scores = functional.dropout(scores, self.dropout)
        shares = torch.softmax(scores / self.temperature, dim=-1)
        if self.training:
            self.temperature = max(self.temperature - _COOLING, 1.0)
        if config.value and config.value_before_softmax:
            values = functional.linear(values, self["value_weight"])
        out = (shares.unsqueeze(-2) @ values).squeeze(-2)
        if config.value and not config.value_before_softmax:
            out = functional.linear(out, self["value_weight"])
        return out if config.residual_before or residual is None else out + residual

    def _cheap(self, folded: _Folded, query: Tensor, x: Tensor, parts: Sequence[BottleneckPart]) -> Tensor:
        units, count = folded.units, folded.branches
        split = units * count
        if query is x:
            both = functional.linear(x, folded.first, folded.first_bias)
            down, scorer = both[..., :split], both[..., split:]
        else:
            down = functional.linear(x, folded.first[:split], folded.first_bias[:split])
            scorer = functional.linear(query, folded.first[split:], folded.first_bias[split:])
        words = {part.config.non_linearity for part in parts}
        if len(words) == 1 and not parts[0].has_activation_weights:
            z = ACTIVATIONS[words.pop()](down)
        else:
            pieces = zip(parts, down.chunk(count, -1), strict=True)
            z = torch.cat([part.activated(piece) for part, piece in pieces], -1)
        z = z.view(*z.shape[:-1], count, units)
        scorer = scorer.reshape(*scorer.shape[:-1], count, units + 1)
        scores = (z * scorer[..., :units]).sum(-1) + scorer[..., units]
        shares = torch.softmax(scores, -1).unsqueeze(-1)
        weighed = torch.cat((z * shares, shares), -1)
        return functional.linear(weighed.flatten(-2), folded.second)

    def _fold(self, parts: Sequence[BottleneckPart]) -> _Folded | None:
        """The products for the weights as they are; None where the plain form has to do.

        That is while anything here is trained, or where a way down is none that can be put beside others.
        """
        if torch.compiler.is_compiling():
            return self._folded
        tensors = tuple(self[name] for name in self.names) + tuple(part[name] for part in parts for name in part.names)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return None
        if self.training or any(part.training or part.config.ln_before or part.config.phm_layer for part in parts):
            return None
        key: tuple[object, ...] = tuple(map(state_of, tensors))
        if self._folded is None or self._folded.key != key:
            with torch.no_grad():
                self._folded = self._product(key, tuple(tensor.detach() for tensor in tensors), parts)
        return self._folded

    def _product(
        self, key: tuple[object, ...], sources: tuple[Tensor, ...], parts: Sequence[BottleneckPart]
    ) -> _Folded:
        like = parts[0]["down_weight"]
        wide = torch.promote_types(like.dtype, torch.float32)
        units = max(part["down_weight"].shape[0] for part in parts)
        downs, biases, scorers, offsets, ups = [], [], [], [], []
        for part in parts:
            more = units - part["down_weight"].shape[0]  # rows of zeros, so that all have one width
            downs.append(functional.pad(part["down_weight"].to(wide), (0, 0, 0, more)))
            biases.append(functional.pad(part["down_bias"].to(wide), (0, more)))
            up, bias = part["up_weight"].to(wide), part["up_bias"].to(wide)
            scaling = part.config.scaling
            scale = part["scaling"].to(wide) if isinstance(scaling, str) else torch.tensor(scaling).to(up)
            up = functional.pad(up * scale.view(-1, 1), (0, more))
            raised = torch.cat((up, (bias * scale).unsqueeze(-1)), -1)  # E: h x (u + 1)
            keys = self["key_weight"].to(wide) @ raised if self.config.key else raised
            if self.config.query:
                scorers.append(keys.T @ self["query_weight"].to(wide))
                offsets.append(keys.T @ self["query_bias"].to(wide))
            else:
                scorers.append(keys.T)
                offsets.append(torch.zeros_like(keys[0]))
            ups.append(self["value_weight"].to(wide) @ raised if self.config.value else raised)
        heat = self.temperature
        first = torch.cat((*downs, *(scorer / heat for scorer in scorers))).to(like.dtype)
        first_bias = torch.cat((*biases, *(offset / heat for offset in offsets))).to(like.dtype)
        return _Folded(key, sources, first, first_bias, torch.cat(ups, -1).to(like.dtype), units, len(parts))


def start_fusion(config: FusionConfig, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """Fill a new fusion's tensors as the peer does: small and normal, the value matrix near the identity."""
    for name, tensor in tensors.items():
        if name.endswith("bias"):
            nn.init.zeros_(tensor)
        elif name == "value_weight" and config.value_initialized:
            tensor.fill_(_DIAGONAL).fill_diagonal_(1.0)
        else:
            nn.init.normal_(tensor, std=0.02, generator=generator)
