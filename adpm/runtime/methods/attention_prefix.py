"""Prefix tuning in AdapterHub's form: keys and values before those of an attention, at no position of their own.

    K' = [P_k g_k, K],  V' = [P_v g_v, V]          P_k, P_v: heads x n x head size;  the mask lets the prefix through
    flat     P is a parameter;  else P = W_up a(W_down E + b) + c, E: n x hidden, for all layers of one kind at once
    gated    g = sigmoid(x G^T + g0), meaned over the tokens: one for both, or one each

How they get there, alone and under a composition, is ``prefixes.py``'s. Sources: Li and Liang 2021 (2101.00190);
``adapters`` 1.3.0, ``methods/prefix_tuning.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_methods import PrefixTuning
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.part import Part

__all__ = ["GatePart", "PrefixTuningPart", "Target", "start_gate", "start_prefix"]


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


class PrefixTuningPart(Part):
    """The prefixes of all attentions of one kind. Slots: ``formats.adapterhub_sequence.prefix_slots``."""

    def __init__(
        self, adapter: Any, names: Mapping[str, str], config: PrefixTuning, targets: tuple[Target, ...], heads: int
    ) -> None:
        super().__init__(adapter, names)
        self.config, self.targets, self.heads = config, targets, heads
        self._parts: Mapping[str, Part] = adapter.parts
        self._activate = ACTIVATIONS[config.non_linearity]

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
