"""LoRA and saved modules of an output layer that shares the embedding's weight: PEFT's ``ensure_weight_tying``.

    y + scale * (x B_e) A_e          A_e: r x tokens, B_e: size x r, the embedding's own pair

So the output layer's A is B_e^T and its B is A_e^T, in files too. Of a saved embedding it has the weight. Where a file
says otherwise, as when something wrote to one of the two alone, each has its own. Other embeddings that share the
weight, an encoder's and a decoder's, have pairs of their own, as in the peer.
Source: ``peft`` 0.21.2, ``tuners/lora/model.py`` (``_add_targets_to_tie``, ``_add_modules_to_save_to_tie``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn

from adpm.formats.peft_keys import Names
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart, start_low_rank
from adpm.runtime.methods.whole import ModulePart
from adpm.runtime.peft_targets import input_embeddings, tied_with

__all__ = ["TiedLowRankPart", "TiedModulePart", "start_tied", "tie"]

_WORDS: Final = ("embed_tokens", "lm_head")  # by which the peer knows that one of them is meant
_OTHER: Final = {"A": "B", "B": "A"}


def tie(names: list[str], meant: Names, anatomy: Anatomy) -> tuple[list[str], list[str]]:
    """``names`` with all embeddings for the output layers that share their weight, and these; as they are, and none,
    where there are none or ``meant``, what the config says, means neither."""
    if not _is_meant(meant):
        return names, []
    embedding = input_embeddings(anatomy)
    sharing = tied_with(embedding, anatomy)
    tied = [name for name in sharing if isinstance(anatomy.modules[name], nn.Linear)]
    if not tied or not {embedding, *sharing} & set(names):
        return names, []
    rest = [name for name in names if name not in tied]
    more = [name for name in (embedding, *sharing) if name not in tied and name not in rest]
    return [*more, *rest], tied


def _is_meant(meant: Names) -> bool:
    if isinstance(meant, str):
        return any(re.fullmatch(meant, word) for word in _WORDS)
    return any(name.rpartition(".")[2] in _WORDS for name in meant)


def start_tied(module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """Zeros, for which the embedding's pair stands in, and with DoRA the magnitude of the layer."""
    start_low_rank("lora", module, tensors, generator)
    for slot in _OTHER:
        nn.init.zeros_(tensors[slot])


class TiedLowRankPart(LowRankPart):
    """The output layer's. Slots as LoRA's; ``key`` is that of the embedding's part."""

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, options: LowRankOptions, key: str) -> None:
        super().__init__(adapter, names, layer, options)
        self._key = key

    def __getitem__(self, slot: str) -> Tensor:
        own = self.names[slot] in self._store
        return super().__getitem__(slot) if own else self._parts[self._key][_OTHER[slot]].T

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        """Zeros, as of a new one, and what equals the embedding's are the embedding's."""
        embedding = self._parts[self._key]
        pair = {slot: tensors[slot] for slot in _OTHER}
        tied = not any(tensor.any() for tensor in pair.values()) or all(
            torch.equal(tensor, embedding[_OTHER[slot]].T) for slot, tensor in pair.items()
        )
        super().bind({slot: tensor for slot, tensor in tensors.items() if not tied or slot not in _OTHER})

    def make_trainable(self) -> None:
        for slot in self.names:
            if self.names[slot] in self._store:
                self[slot].requires_grad_(True)


class TiedModulePart(ModulePart):
    """The output layer's own copy, without a bias. ``key`` is that of the embedding's part."""

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, original: nn.Module, key: str) -> None:
        super().__init__(adapter, names, layer, original)
        self._key = key

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        super().bind(tensors)
        parts: Mapping[str, ModulePart] = self.adapter.parts  # type: ignore[assignment]  # an Adapter's
        embedding = parts[self._key]
        if torch.equal(self["weight"], embedding["weight"]):
            self.module.weight = embedding.module.weight
