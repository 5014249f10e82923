"""AdapterHub's classification head: linear layers with dropout before each and an activation between them.

    logits = W_n drop(... a(W_1 drop(c)))        c: batch x hidden, the first token's state or the pooler's output

Source: ``adapters`` 1.3.0, ``heads/base.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub import HeadConfig
from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.runtime.activations import ACTIVATIONS, Activation
from adpm.runtime.methods.bottleneck import start_activation
from adpm.runtime.part import Part

__all__ = ["HeadPart", "start_head"]


class HeadPart(Part):
    """One classification head. Slots: ``formats.adapterhub_tensors.head_slots``; ``dropout`` is the probability."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: HeadConfig, dropout: float) -> None:
        super().__init__(adapter, names)
        self.config = config
        self.dropout = dropout
        word = config.activation_function
        self._activate: Activation | None = ACTIVATIONS[word] if word else None
        self._activation_weights = tuple(ACTIVATION_WEIGHTS[word]) if word else ()

    def logits(self, x: Tensor) -> Tensor:
        """Scores, batch x labels."""
        for layer in range(self.config.layers):
            if self.training:
                x = functional.dropout(x, self.dropout)
            x = functional.linear(x, self[f"layer{layer}_weight"], self.get(f"layer{layer}_bias"))
            if self._activate is not None and layer < self.config.layers - 1:
                x = self._activate(x, *(self[f"activation{layer}_{name}"] for name in self._activation_weights))
        return x

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error for one label (regression), else cross-entropy."""
        if self.config.num_labels == 1:
            return functional.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
        return functional.cross_entropy(logits.view(-1, self.config.num_labels), labels.view(-1))


def start_head(config: HeadConfig, spread: float, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """As transformers starts linear layers: normal with the model's ``initializer_range``, zero biases."""
    for name, tensor in tensors.items():
        if name.startswith("activation") and config.activation_function is not None:
            start_activation(config.activation_function, name, tensor)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
        else:
            with torch.no_grad():
                nn.init.normal_(tensor, std=spread, generator=generator)
