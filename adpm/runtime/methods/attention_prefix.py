"""Prefix tuning in AdapterHub's form: keys and values before those of an attention, at no position of their own.

    K' = [P_k g_k, K],  V' = [P_v g_v, V]          P_k, P_v: heads x n x head size;  the mask lets the prefix through
    flat     P is a parameter;  else P = W_up a(W_down E + b) + c, E: n x hidden, for all layers of one kind at once
    gated    g = sigmoid(x G^T + g0), meaned over the tokens: one for both, or one each

What an attention module is handed as its cache puts the prefix before what it is given: after rotary positions, before
the scores. In a stack the later adapter's prefix stands first. Under SDPA with padding the peer's own prefix is masked
out where masks are boolean; here it never is. Sources: Li and Liang 2021 (2101.00190); ``adapters`` 1.3.0,
``methods/prefix_tuning.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import EncoderDecoderCache

from adpm.errors import AdapterError
from adpm.formats.adapterhub_methods import PrefixTuning
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Point
from adpm.runtime.methods.calls import Call
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.part import Part

__all__ = ["GatePart", "PrefixTuningPart", "Target", "start_gate", "start_prefix"]

_CACHES = ("past_key_values", "past_key_value", "layer_past")
_MASKS = ("attention_mask", "mask")


@dataclass(frozen=True, slots=True)
class Target:
    """One attention: its module, and the key of its gate's part if it has one."""

    module: str
    gate: str | None
    across: bool


class GatePart(Part):
    """One attention's gate. Slots: ``gate_weight``, ``gate_bias``."""

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For keys and values. Shapes: rows x 1 x 1 x 1."""
        found = torch.sigmoid(functional.linear(x, self["gate_weight"], self["gate_bias"])).mean(dim=1)
        return found[:, 0].view(-1, 1, 1, 1), found[:, -1].view(-1, 1, 1, 1)


class PrefixTuningPart(HookedPart):
    """The prefixes of all attentions of one kind. Slots: ``formats.adapterhub_sequence.prefix_slots``."""

    def __init__(
        self, adapter: Any, names: Mapping[str, str], config: PrefixTuning, targets: tuple[Target, ...], heads: int
    ) -> None:
        super().__init__(adapter, names)
        self.config, self.targets, self.heads = config, targets, heads
        self._parts: Mapping[str, Part] = adapter.parts
        self._activate = ACTIVATIONS[config.non_linearity]

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        for place, target in enumerate(self.targets):
            call = Call(anatomy.module(target.module))
            cache = next((word for word in _CACHES if word in call), None)
            mask = next((word for word in _MASKS if word in call), None)
            if cache is None or mask is None:
                raise AdapterError(
                    "family-unsupported",
                    f"adpm can't put a prefix into {target.module}",
                    cause=f"{type(anatomy.module(target.module)).__name__} takes no past keys and values",
                )
            yield Act(Point(target.module, "before"), _Extend(self, place, call, cache, mask))

    def prefix(self, place: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values for the attention in ``place``; ``x`` is its input. Shapes: rows x heads x n x head size."""
        config = self.config
        if config.flat:
            found = self["flat"].view(config.prefix_length, 2 * len(self.targets), self.heads, -1)
            found = found[:, 2 * place : 2 * place + 2]
        else:
            width = len(self["up_bias"]) // len(self.targets)
            own = slice(place * width, (place + 1) * width)
            down = functional.linear(self["tokens"], self["down_weight"], self["down_bias"])
            up = functional.linear(self._activate(down), self["up_weight"][own], self["up_bias"][own])
            found = up.view(config.prefix_length, 2, self.heads, -1)
        found = found.permute(1, 2, 0, 3).unsqueeze(1).expand(-1, len(x), -1, -1, -1)
        if config.dropout and self.training:
            found = functional.dropout(found, config.dropout)
        keys, values = found.to(x.dtype).unbind()
        gate = self._parts.get(self.targets[place].gate or "")
        if isinstance(gate, GatePart):
            for_keys, for_values = gate.gates(x)
            return keys * for_keys, values * for_values
        return keys, values


class _Extend:
    """Before an attention module: its cache and its mask."""

    def __init__(self, part: PrefixTuningPart, place: int, call: Call, cache: str, mask: str) -> None:
        self.part, self.place, self.call = part, place, call
        self.cache, self.mask = cache, mask
        self.across = part.targets[place].across

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = self.call.named(args, kwargs)
        x = kwargs[self.call.names[0]]
        keys, values = self.part.prefix(self.place, x)
        cache = kwargs.get(self.cache)
        if isinstance(cache, EncoderDecoderCache):
            cache = None if self.across else cache.self_attention_cache
        kwargs[self.cache] = _Front(keys, values, cache)
        kwargs[self.mask] = _widened(kwargs.get(self.mask), keys.shape[2], module, x, cache)
        return (x,), {name: value for name, value in kwargs.items() if name != self.call.names[0]}


class _Front:
    """What an attention module takes for its cache: it adds the new keys to the real one, and the prefix before all."""

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, cache: Any) -> None:
        self.keys, self.values, self.cache = keys, values, cache

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *args, **kwargs)
        return torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)

    def get_seq_length(self, *args: Any) -> int:
        return 0 if self.cache is None else int(self.cache.get_seq_length(*args))


def _widened(mask: Tensor | None, count: int, module: nn.Module, x: Tensor, cache: Any) -> Tensor | None:
    """The mask with the prefix let through.

    A missing mask may stand for a causal one, which counts columns from the prefix's beginning, as in the peer.
    """
    if mask is None:
        length = x.shape[1]
        if not getattr(module, "is_causal", False) or length == 1:
            return None
        past = 0 if cache is None else int(cache.get_seq_length(getattr(module, "layer_idx", 0) or 0))
        whole = torch.ones(length, count + past + length, dtype=torch.bool, device=x.device)
        return whole.tril()[None, None]
    return functional.pad(mask, (count, 0), value=1 if mask.dtype == torch.bool or mask.dim() == 2 else 0)


def start_prefix(config: PrefixTuning, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """As torch starts an embedding and linear layers; a flat prefix is normal."""
    for name, tensor in tensors.items():
        if config.flat or name == "tokens":
            nn.init.normal_(tensor, generator=generator)
        else:
            bound = 1 / tensors[name.replace("bias", "weight")].shape[1] ** 0.5
            nn.init.uniform_(tensor, -bound, bound, generator=generator)


def start_gate(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    nn.init.normal_(tensors["gate_weight"], std=0.02, generator=generator)
    bound = 1 / tensors["gate_weight"].shape[1] ** 0.5
    nn.init.uniform_(tensors["gate_bias"], -bound, bound, generator=generator)
