"""Prompt tuning and P-tuning in PEFT's form: vectors before the embedded tokens.

    E' = [v_1 ... v_n, E]            v: n x size; the attention mask gets n ones, token types zeros, labels n times -100

The outputs have n more positions. An encoder-decoder has them before its encoder's input. In generation the first step
puts them into the cache; later ones count them. P-tuning's files hold finished vectors, and so do these parts: its
encoder is a way to train them that ends there. They come in behind the factor of Gemma 2's embeddings, as on the newest
transformers; older ones have it in the model, behind everything that is embedded. Sources: Lester et al. 2021
(2104.08691), Liu et al. 2021 (2103.10385); ``peft`` 0.21.2, ``peft_model.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.peft_prompts import PeftVirtual
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Point
from adpm.runtime.methods.calls import Call, cached_length, later, widen
from adpm.runtime.methods.hooked import HookedPart

__all__ = ["PromptPart"]


class PromptPart(HookedPart):
    """Slot: ``vectors``; an encoder-decoder's file may hold twice as many, of which the first half is used."""

    ALONE = True

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], config: PeftVirtual) -> None:
        super().__init__(adapter, names)
        self.count = config.num_virtual_tokens
        self.drops_types = config.task_type == "CAUSAL_LM"
        self.factor = 1.0  # that the model multiplies the vectors with

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        model = anatomy.model
        embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]  # a transformers model's
        paired = bool(getattr(anatomy.config, "is_encoder_decoder", False))
        if "inputs_embeds" not in Call(model.get_encoder() if paired else model):  # type: ignore[operator]  # as above
            raise AdapterError(
                "adapter-misfit",
                f"{type(model).__name__} takes no embedded tokens",
                cause="prompt tuning in PEFT's form puts its vectors before them",
            )
        known = anatomy.table
        if known is not None and known.embeddings.unscaled and not hasattr(embedding, "embed_scale"):
            self.factor = anatomy.hidden_size**0.5
        if not paired:
            yield Act(Point("", "before"), _Prepend(self, Call(model), embedding))
            return
        encoder: nn.Module = model.get_encoder()  # type: ignore[operator]  # as above
        name = next(name for name, module in anatomy.modules.items() if module is encoder)
        yield Act(Point("", "before"), _WidenMask(self.count, Call(model)))
        yield Act(Point(name, "before"), _Prepend(self, Call(encoder), embedding))

    def before(self, embedded: Tensor) -> Tensor:
        """``embedded`` (rows x tokens x size) with the vectors before it."""
        vectors = self["vectors"][: self.count].to(embedded) / self.factor
        return torch.cat((vectors.expand(len(embedded), -1, -1), embedded), dim=1)


class _Prepend:
    def __init__(self, part: PromptPart, call: Call, embedding: nn.Module) -> None:
        self.part, self.call, self.embedding = part, call, embedding

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        kwargs, count = self.call.named(args, kwargs), self.part.count
        if cached_length(kwargs):
            return (), later(kwargs, count, "attention_mask")
        embedded = kwargs.get("inputs_embeds")
        if embedded is None:
            embedded = self.embedding(kwargs["input_ids"])
        tokens = embedded.shape[1]
        mask, labels = kwargs.get("attention_mask"), kwargs.get("labels")
        if mask is not None and mask.shape[-1] == tokens:
            widen(kwargs, "attention_mask", count, 1)
        widen(kwargs, "token_type_ids", count, 0)
        if labels is not None and not labels.is_floating_point() and labels.shape[-1] == tokens:
            widen(kwargs, "labels", count, -100)
        gone = {"input_ids", "position_ids", "cache_position", *(("token_type_ids",) if self.part.drops_types else ())}
        kwargs = {name: value for name, value in kwargs.items() if name not in gone}
        return (), {**kwargs, "inputs_embeds": self.part.before(embedded)}


class _WidenMask:
    """Before an encoder-decoder: the mask that its decoder uses for what the encoder gives."""

    def __init__(self, count: int, call: Call) -> None:
        self.count, self.call = count, call

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        kwargs = self.call.named(args, kwargs)
        widen(kwargs, "attention_mask", self.count, 1)
        return (), kwargs
