"""Prompt tuning in AdapterHub's form: vectors before what the embeddings give, or behind its first position.

    h0' = [v_1 ... v_n, h0]   or   [h0_1, v_1 ... v_n, h0_2 ...]            v: n x size

They come after positions and norm, unlike PEFT's. Every layer's mask lets them through, and lets them see all. Under
SDPA and in DeBERTa that is padding, too, as in the peer; under eager attention it is what other tokens see. In a stack
only the first adapter's act, as in the peer. Sources: Lester et al. 2021 (2104.08691); ``adapters`` 1.3.0,
``methods/prompt_tuning.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_methods import PromptTuning
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Order, Point
from adpm.runtime.methods.calls import Call, widen
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.methods.masking import is_eager, opens, with_scores

__all__ = ["EmbeddedPromptPart", "start_embedded_prompt"]


_MASKS: Final = (
    "attention_mask",
    "attn_mask",
    "causal_attention_mask",
)  # a layer's; the others up to transformers 4.57


class EmbeddedPromptPart(HookedPart):
    """Slot: ``vectors``, [n, size]."""

    FIRST_ALONE = True
    ALONE = True

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: PromptTuning) -> None:
        super().__init__(adapter, names)
        self.behind_first = config.combine == "prefix_after_bos"

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        base, embeddings = anatomy.prefix.rstrip("."), anatomy.embeddings()[0]
        if "mask" not in Call(anatomy.module(embeddings)):
            # Others, such as ReFT, count the text's own positions.
            yield Act(Point(base, "before"), _WidenPlain(self, Call(anatomy.modules[base])), Order.LAST)
        yield Act(Point(embeddings, "after"), _Insert(self))
        attentions = {site.layer: anatomy.module(site.module) for site in anatomy.attentions()}
        for number, layer in anatomy.layers():
            widen_mask = _WidenMask(self, Call(anatomy.module(layer)), attentions[number], anatomy.model_type)
            yield Act(Point(layer, "before"), widen_mask)

    def insert(self, hidden: Tensor) -> Tensor:
        vectors = self["vectors"].to(hidden.dtype).expand(len(hidden), -1, -1)
        cut = 1 if self.behind_first else 0
        return torch.cat((hidden[:, :cut], vectors, hidden[:, cut:]), dim=1)


class _Insert:
    def __init__(self, part: EmbeddedPromptPart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        if isinstance(output, tuple):
            return (self.part.insert(output[0]), *output[1:])
        return self.part.insert(output)


class _WidenPlain:
    """Before the base: the mask of tokens."""

    def __init__(self, part: EmbeddedPromptPart, call: Call) -> None:
        self.part, self.call = part, call

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        kwargs = self.call.named(args, kwargs)
        widen(kwargs, "attention_mask", len(self.part["vectors"]), 1)
        return (), kwargs


class _WidenMask:
    """Before a layer: the mask that the model made, which may know nothing of the prompt's rows, or columns."""

    def __init__(self, part: EmbeddedPromptPart, call: Call, attention: nn.Module, model_type: str) -> None:
        self.part, self.call, self.attention = part, call, attention
        self.ones = "rel_embeddings" in call  # DeBERTa, whose mask has ones and zeros
        self.scored = model_type == "distilbert"  # whose mask has them in the peer's eyes: decision 0032

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        kwargs = self.call.named(args, kwargs)
        masks = {name: kwargs[name] for name in _MASKS if isinstance(kwargs.get(name), Tensor)}
        if not masks:
            return None
        first = self.call.names[0]
        x = kwargs.pop(first)
        return (x,), kwargs | {name: self._widened(mask, x) for name, mask in masks.items()}

    def _widened(self, mask: Tensor, x: Tensor) -> Tensor:
        """``mask`` for the positions of ``x``, of which the prompt's see and are seen."""
        length = x.shape[1]
        count = len(self.part["vectors"])
        value = 1 if self.ones else opens(mask)
        mask = functional.pad(mask, (length - mask.shape[-1], 0), value=value)
        if mask.dim() == 4 and mask.shape[2] > 1:
            own = mask[:, :, count - length :]
            mask = functional.pad(own, (0, 0, count, 0), value=value)
            if is_eager(self.attention) and not self.ones:
                mask[:, :, :count] = own.amax(dim=2, keepdim=True)
            elif self.scored:
                mask = with_scores(mask, x.new_ones(len(x), 1, 1, count), x)
                mask[:, :, :count] = 1  # alike for all that the prompt sees
        return mask


def start_embedded_prompt(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """Evenly between -0.5 and 0.5."""
    nn.init.uniform_(tensors["vectors"], -0.5, 0.5, generator=generator)
