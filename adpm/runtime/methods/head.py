"""AdapterHub's prediction heads: from the model's last states to scores, and the loss for given labels.

    sequence of layers     s = W_n drop(... a(W_1 drop(x)))       x: the text's state, or each token's
    language heads         s = E n(a(W x)) ...      n: a norm; an invertible adapter is undone before E
    dependency parsing     arcs = (d; 1) A h,  rels_l = (d; 1) R_l (h; 1)    d: words, h: the first token and the words

A word's state is the mean of its tokens' states, which ``word_starts`` delimits. Shapes: x is batch x hidden or batch x
tokens x hidden, s the same with scores last, arcs batch x words x (1 + words), rels the same x labels.
Source: ``adapters`` 1.3.0, ``heads/base.py``, ``heads/language_modeling.py``, ``heads/dependency_parsing.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_heads import LANGUAGE_HEADS, HeadConfig
from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.runtime.activations import ACTIVATIONS, Activation
from adpm.runtime.methods.bottleneck import start_activation
from adpm.runtime.part import Part

__all__ = ["IGNORED", "HeadPart", "TiedHeadPart", "last_weight", "start_head"]

IGNORED = -100  # the label of a token that does not count, as everywhere in torch


class HeadPart(Part):
    """One head. Slots: ``formats.adapterhub_heads.head_slots``; ``dropout`` is the probability, ``eps`` its norms'."""

    def __init__(
        self, adapter: nn.Module, names: Mapping[str, str], config: HeadConfig, dropout: float, eps: float = 1e-12
    ) -> None:
        super().__init__(adapter, names)
        self.config = config
        self.dropout = dropout
        self.eps = eps
        word = config.activation_function
        self._activate: Activation | None = ACTIVATIONS[word] if word else None
        self._activation_weights = tuple(ACTIVATION_WEIGHTS[word]) if word else ()

    def logits(self, x: Tensor, undo: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The scores; ``undo`` is an invertible adapter's way back, which language heads take before the last layer."""
        config = self.config
        words = config.head_type in LANGUAGE_HEADS
        for layer in range(config.layers):
            last = layer == config.layers - 1
            if self.training and not words:
                x = functional.dropout(x, self.dropout)
            if last and words and undo is not None:
                x = undo(x)
            x = functional.linear(x, self[f"layer{layer}_weight"], self.get(f"layer{layer}_bias"))
            if last:
                break
            if self._activate is not None:
                x = self._activate(x, *(self[f"activation{layer}_{name}"] for name in self._activation_weights))
            if words and config.layer_norm:
                norm = self[f"norm{layer}_weight"], self[f"norm{layer}_bias"]
                x = functional.layer_norm(x, x.shape[-1:], *norm, self.eps)
        return x.view(-1, config.num_choices) if config.head_type == "multiple_choice" else x

    def parse(self, states: Tensor, word_starts: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        """Scores of arcs and of relations."""
        if self.training:
            states = functional.dropout(states, self.dropout)
        words = _words(states, word_starts, padding)
        heads = torch.cat((states[:, :1], words), 1)
        dependents = _with_one(words)
        arcs = torch.einsum("bxi,ij,byj->bxy", dependents, self["arcs"][0], heads)
        rels = torch.einsum("bxi,oij,byj->bxyo", dependents, self["rels"], _with_one(heads))
        return arcs, rels

    def loss(self, logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Squared error for one label of a text; a binary cross-entropy a label for several at once; cross-entropy.

        ``labels`` may lack the positions of a prompt, which then do not count, nor do those where ``mask`` is 0.
        """
        config = self.config
        kind = config.head_type
        if kind == "multilabel_classification" or (kind == "image_classification" and config.multilabel):
            return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        if kind == "multiple_choice":
            return functional.cross_entropy(logits, labels.view(-1))
        if kind in ("classification", "image_classification"):
            if config.num_labels == 1:
                return functional.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
            return functional.cross_entropy(logits.view(-1, config.num_labels), labels.view(-1))
        more = logits.shape[1] - labels.shape[1]
        if kind == "tagging" and mask is not None:
            labels = labels.masked_fill(mask != 1, IGNORED)
        labels = functional.pad(labels, (more, 0), value=IGNORED)
        if config.shift_labels and kind in LANGUAGE_HEADS:
            logits, labels = logits[:, :-1], labels[:, 1:]
        return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def span_loss(self, start: Tensor, end: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Of an answer's first and last token; an answer outside the text does not count."""
        beyond = start.shape[1]
        first, last = (where.view(-1).clamp(0, beyond) for where in (starts, ends))
        entropy = functional.cross_entropy
        return (entropy(start, first, ignore_index=beyond) + entropy(end, last, ignore_index=beyond)) / 2

    def parse_loss(self, arcs: Tensor, rels: Tensor, heads: Tensor, kinds: Tensor, padding: int) -> Tensor:
        """Of each word's head, and of the kind of the true arc; words with ``padding`` as their head don't count."""
        counts = heads.ne(padding)
        true = heads[counts]
        chosen = rels[counts][torch.arange(len(true), device=true.device), true]
        return functional.cross_entropy(arcs[counts], true) + functional.cross_entropy(chosen, kinds[counts])


class TiedHeadPart(HeadPart):
    """A language head whose last weight is that of ``embedding``, the base's of tokens: what the base's
    ``tie_word_embeddings`` means, and what the peer makes of any head on such a base.

    It then has no such parameter of its own, and never trains it. Where a file has another weight, that one is its own.
    """

    def __init__(self, *args: Any, embedding: nn.Module, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._embedding = embedding
        self._last = last_weight(self.config)

    def __getitem__(self, slot: str) -> Tensor:
        return super().__getitem__(slot) if self._is_own(slot) else self._embedding.get_parameter("weight")

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        shared = self._embedding.get_parameter("weight")
        tied = torch.equal(tensors[self._last].to(shared), shared)
        super().bind({slot: tensor for slot, tensor in tensors.items() if not tied or slot != self._last})

    def make_trainable(self) -> None:
        for slot in self.names:
            if self._is_own(slot):
                self[slot].requires_grad_(True)

    def _is_own(self, slot: str) -> bool:
        return slot != self._last or self.names[slot] in self._store


def last_weight(config: HeadConfig) -> str:
    """The slot of what makes scores."""
    return f"layer{config.layers - 1}_weight"


def _with_one(x: Tensor) -> Tensor:
    return torch.cat((x, torch.ones_like(x[..., :1])), -1)


def _words(states: Tensor, word_starts: Tensor, padding: int) -> Tensor:
    """The mean state of each word, as many rows as there are tokens; zeros behind the last word."""
    out = torch.zeros_like(states)
    for row, starts in enumerate(word_starts):
        places = [place for place in starts.tolist() if place != padding]
        for word, (begin, end) in enumerate(pairwise(places)):
            if end <= 0:
                break
            out[row, word] = states[row, begin:end].mean(0)
    return out


def start_head(
    config: HeadConfig,
    spread: float,
    embedding: nn.Module | None,
    tensors: Mapping[str, Tensor],
    generator: Generator | None,
) -> None:
    """As transformers starts layers: normal with the model's ``initializer_range``, zero biases; parsers at 0; a tied
    head with the weight of ``embedding``."""
    for name, tensor in tensors.items():
        if embedding is not None and name == last_weight(config):
            tensor.copy_(embedding.get_parameter("weight"))
        elif name.startswith("activation") and config.activation_function is not None:
            start_activation(config.activation_function, name, tensor)
        elif name.endswith("bias") or name in ("arcs", "rels"):
            nn.init.zeros_(tensor)
        elif name.startswith("norm"):
            nn.init.ones_(tensor)
        else:
            with torch.no_grad():
                nn.init.normal_(tensor, std=spread, generator=generator)
