"""PEFT's virtual tokens on a live model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_prompts import PeftPrefix, PeftPrompt, PeftVirtual
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.methods.prefix import PrefixPart
from adpm.runtime.methods.prompt import PromptPart
from adpm.runtime.part import Blueprint
from adpm.runtime.peft_targets import input_embeddings

__all__ = ["virtual_blueprint"]

_VECTORS = "prompt/vectors"


def virtual_blueprint(config: PeftVirtual, anatomy: Anatomy) -> Blueprint:
    """The part of all virtual tokens. Raises ``AdapterError`` (``adapter-misfit``)."""
    prefix = isinstance(config, PeftPrefix)
    layers, heads, size = _sizes(config, anatomy)
    paired = bool(getattr(anatomy.config, "is_encoder_decoder", False))
    halves = config.num_transformer_submodules or (2 if paired else 1)
    shape = (config.num_virtual_tokens, 2 * layers * size) if prefix else (config.num_virtual_tokens * halves, size)
    sizes = (layers, heads)
    build = partial(PrefixPart, sizes=sizes, step=2 * halves) if prefix else partial(PromptPart, config=config)
    return Blueprint(
        key=_VECTORS,
        file=("", ""),
        slots=(Slot("vectors", "prompt_embeddings", shape),),
        build=build,
        start=partial(_start, config, anatomy),
    )


def _sizes(config: PeftVirtual, anatomy: Anatomy) -> tuple[int, int, int]:
    """Layers, heads of keys, and the size of a vector or of a layer's keys: the file's, else the model's."""
    model = anatomy.config
    if isinstance(config, PeftPrefix):
        all_heads = _first(model, "num_attention_heads", "n_head", "num_heads", "encoder_attention_heads")
        heads = config.num_attention_heads or _first(model, "num_key_value_heads") or all_heads
        head = _first(model, "head_dim", "d_kv") or anatomy.hidden_size // max(all_heads, 1)
        layers = config.num_layers or _first(model, "num_decoder_layers", "num_hidden_layers", "n_layer", "num_layers")
        size = config.token_dim or heads * head
        if not layers or not heads or size % heads:
            raise AdapterError("adapter-misfit", f"{size} can't be divided among {heads} heads of {layers} layers")
        return layers, heads, size
    weight = getattr(anatomy.modules[input_embeddings(anatomy)], "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise AdapterError("adapter-misfit", f"{type(anatomy.model).__name__} has no embedding of tokens")
    return 0, 1, config.token_dim or weight.shape[1]


def _first(model: object, *names: str) -> int:
    """The first of a config's numbers that it has; 0 where it has none."""
    found = (getattr(model, name, None) for name in names)
    return next((number for number in found if isinstance(number, int)), 0)


def _start(config: PeftVirtual, anatomy: Anatomy, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """As an embedding starts; other vocabulary's vectors where the config says so."""
    vectors = tensors["vectors"]
    if isinstance(config, PeftPrompt) and config.prompt_tuning_init == "SAMPLE_VOCAB":
        weight = anatomy.modules[input_embeddings(anatomy)].weight
        if isinstance(weight, Tensor):
            vectors.copy_(weight[torch.randint(0, len(weight), (len(vectors),), generator=generator)])
        return
    projected = isinstance(config, PeftPrefix) and config.prefix_projection
    plain = isinstance(config, PeftPrefix) or (isinstance(config, PeftPrompt) and config.prompt_tuning_init == "RANDOM")
    if projected or not plain:
        raise AdapterError(
            "method-unsupported",
            f"a new {config.KIND} can't start so",
            cause="adpm trains the vectors themselves, without an encoder, a projection or a text's tokens",
            hint="prompt_tuning with RANDOM or SAMPLE_VOCAB, and prefix_tuning without projection, can start here",
        )
    if isinstance(config, PeftPrefix) and config.init_weights == "zero":
        nn.init.zeros_(vectors)
    else:
        nn.init.normal_(vectors, generator=generator)
