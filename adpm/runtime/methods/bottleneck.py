"""Bottleneck adapters: sequential and parallel, in all of AdapterHub's options.

With h the sub-layer's output after dropout, r its residual input and N its layer norm:

    change(x) = scaling * (W_up a(W_down n(x) + b_down) + b_up) * gate(x)        x: batch x tokens x hidden

    sequential   x, s = h, h                      original_ln_before: x = N(h + r), and s = h, h + r or x,
                                                  as residual_before_ln is true, post_add or false
                 h' = change(x) + s               ln_after: h' = n'(change(x)) + s or n'(change(x) + s)
    parallel     x = r,  h' = change(r)           ln_after: h' = n'(change(r))

The next adapter of a stack gets h' as its h. At the end the sub-layer gives N(h' + r), or h' where original_ln_after is
false; after a parallel adapter the h of before all adapters is added to h', so that what stood before it in the stack
is lost, as in the peer.
Sources: Houlsby et al. 2019, Pfeiffer et al. 2020, He et al. 2021; ``adapters`` 1.3.0, ``methods/bottleneck.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.formats.adapterhub_methods import Bottleneck
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.anatomy import Site
from adpm.runtime.methods.added import added
from adpm.runtime.methods.product import multiply, start_product
from adpm.runtime.part import Part

__all__ = ["PRODUCT", "BottleneckPart", "SharedProductPart", "start_bottleneck"]

PRODUCT: Final = "shared/product"  # the key of the part that product layers share

Norm = Callable[[Tensor], Tensor]
_ACTIVATION_WEIGHTS = {
    word: tuple(f"activation_{name}" for name in names) for word, names in ACTIVATION_WEIGHTS.items()
}
_STARTS = {
    ("prelu", "weight"): 0.25,
    ("xielu", "alpha_p"): math.log(math.expm1(0.8)),
    ("xielu", "alpha_n"): math.log(math.expm1(0.3)),
    ("xielu", "beta"): 0.5,
    ("xielu", "eps"): -1e-6,
}


class SharedProductPart(Part):
    """What the product layers of one adapter have in common."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: Bottleneck) -> None:
        super().__init__(adapter, names)
        self.config = config

    def make_trainable(self) -> None:
        train_except_rules(self, self.config)


class BottleneckPart(Part):
    """One bottleneck. Slots: ``formats.adapterhub_tensors.bottleneck_slots``."""

    def __init__(self, adapter: Any, names: Mapping[str, str], config: Bottleneck, site: Site) -> None:
        super().__init__(adapter, names)
        self.config = config
        self.site = site
        self._parts: Mapping[str, Part] = adapter.parts  # of the same adapter, for what they share
        self._activate = ACTIVATIONS[config.non_linearity]
        self._activation_weights = _ACTIVATION_WEIGHTS[config.non_linearity]

    def make_trainable(self) -> None:
        train_except_rules(self, self.config)

    @property
    def adds_to_sum(self) -> bool:
        """Whether it maps h + r to h + r + something that depends on N(h + r) alone."""
        config = self.config
        return (
            not config.is_parallel
            and config.original_ln_before
            and config.residual_before_ln is True
            and not (config.ln_after and config.adapter_residual_before_ln)
        )

    @property
    def needs_hidden_alone(self) -> bool:
        """Whether it maps h to something that depends on h alone."""
        return not self.config.is_parallel and not self.config.original_ln_before

    @property
    def is_plain(self) -> bool:
        """Whether ``change`` is two linear layers, an activation and a scale, and nothing more."""
        config = self.config
        special = config.ln_before or config.ln_after or config.phm_layer or config.use_gating
        return not special and not self._activation_weights

    def raised(self, x: Tensor) -> Tensor:
        """scaling * (W_up a(W_down n(x) + b_down) + b_up): what AdapterFusion weighs."""
        config = self.config
        inner = x
        if config.ln_before:
            inner = functional.layer_norm(x, x.shape[-1:], self["norm_before_weight"], self["norm_before_bias"])
        if config.phm_layer:
            common = self._parts.get(PRODUCT, self)
            down = self.activated(multiply(inner, self, common, "down"))
            up = multiply(down, self, common, "up")
        else:
            down = self.activated(functional.linear(inner, self["down_weight"], self["down_bias"]))
            up = functional.linear(down, self["up_weight"], self["up_bias"])
        if config.stochastic_depth and self.training and not config.is_parallel:
            up = _drop_rows(up, config.stochastic_depth)
        if isinstance(config.scaling, str):
            return up * self["scaling"]
        return up if config.scaling == 1.0 else up * config.scaling

    def change(self, x: Tensor) -> Tensor:
        """The formula's ``change``. Shape of ``x`` and of the result: batch x tokens x hidden."""
        config = self.config
        up = self.raised(x)
        if config.dropout and self.training:
            up = functional.dropout(up, config.dropout)
        if config.use_gating:
            gate = torch.sigmoid(functional.linear(x, self["gate_weight"], self["gate_bias"]))
            up = up * gate.mean(dim=1, keepdim=True)
        if config.ln_after and not (config.adapter_residual_before_ln and not config.is_parallel):
            up = self._norm_after(up)
        return up

    def enter(self, hidden: Tensor, residual: Tensor | None, norm: Norm | None) -> tuple[Tensor, Tensor]:
        """The formula's x and s for h = ``hidden`` and r = ``residual``."""
        config = self.config
        if config.is_parallel:
            r = hidden if residual is None else residual
            return r, r
        x, skip = hidden, hidden
        if config.original_ln_before:
            total = hidden if residual is None else hidden + residual
            x = total if norm is None else norm(total)
            if config.residual_before_ln == "post_add":
                skip = total
        if not config.residual_before_ln:
            skip = x
        return x, skip

    def apply(self, x: Tensor, residual: Tensor) -> Tensor:
        """h' of a sequential adapter."""
        out = added(residual, self.change(x))
        return self._norm_after(out) if self.config.ln_after and self.config.adapter_residual_before_ln else out

    @property
    def has_activation_weights(self) -> bool:
        return bool(self._activation_weights)

    def activated(self, x: Tensor) -> Tensor:
        if not self._activation_weights:
            return self._activate(x)
        return self._activate(x, *(self[name] for name in self._activation_weights))

    def _norm_after(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self["norm_after_weight"], self["norm_after_bias"])


def train_except_rules(part: Part, config: Bottleneck) -> None:
    """Train all but what stays as it started: product rules without ``learn_phm``, and xIELU's constants."""
    for slot in part.names:
        fixed = "phm_rule" in slot and not config.learn_phm
        part[slot].requires_grad_(not fixed and not slot.endswith(("_beta", "_eps")))


def _drop_rows(x: Tensor, probability: float) -> Tensor:
    """Stochastic depth by rows: whole rows of the batch are zero, the others scaled up."""
    keep = torch.empty(x.shape[:1] + (1,) * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(1.0 - probability)
    return x * (keep / (1.0 - probability) if probability < 1.0 else keep)


def start_bottleneck(config: Bottleneck, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """Fill a new bottleneck's tensors as ``init_weights`` says."""
    for name, tensor in tensors.items():
        if name.startswith("norm") or name == "scaling":
            nn.init.zeros_(tensor) if name.endswith("bias") else nn.init.ones_(tensor)
        elif name.startswith("activation"):
            start_activation(config.non_linearity, name, tensor)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
        elif config.phm_layer and not name.startswith("gate"):
            start_product(config, {name: tensor}, generator, own=True)
        elif name.startswith("gate") or config.init_weights == "bert":
            nn.init.normal_(tensor, std=0.02, generator=generator)
        elif config.init_weights == "houlsby":
            nn.init.trunc_normal_(tensor, std=0.01, a=-0.02, b=0.02, generator=generator)
        elif name.startswith("down"):
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        else:
            nn.init.zeros_(tensor)


def start_activation(word: str, name: str, tensor: Tensor) -> None:
    """The few activations with weights start at transformers' values."""
    nn.init.constant_(tensor, _STARTS[word, name.split("_", 1)[1]])
