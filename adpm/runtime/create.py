"""A new adapter's settings from what a user wrote."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adpm.errors import UsageError
from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_heads import LANGUAGE_HEADS, HeadConfig, head_of
from adpm.formats.adapterhub_methods import NAMED, Method, method_of, method_value
from adpm.formats.peft import PEFT_METHODS, PeftMethod, peft_of
from adpm.formats.peft_prompts import PeftVirtual
from adpm.runtime.adapter import Source
from adpm.runtime.anatomy import Anatomy, is_tied, token_embedding

__all__ = ["Config", "Head", "new_source"]

Config = str | Method | PeftMethod | Mapping[str, Any]
Head = int | HeadConfig | Mapping[str, Any] | None
_PEFT = {f"peft_{kind.lower()}": kind for kind in PEFT_METHODS}  # what a user may call PEFT's methods by


def new_source(name: str, settings: Config, head: Head, options: Mapping[str, object], anatomy: Anatomy) -> Source:
    """The settings of the adapter ``name``; the errors are those of ``Adapters.add``."""
    where = f"the settings of {name!r}"
    model_name = getattr(anatomy.config, "_name_or_path", None) or None
    value = _value(settings)
    known = {**value, **options}
    if "peft_type" in value:
        if head is not None:
            raise UsageError(
                "head-invalid",
                "PEFT's format has no heads of its own",
                hint='name the model\'s own: modules_to_save=["classifier"]',
            )
        config = peft_of({"base_model_name_or_path": model_name, **known}, source=where)
        if isinstance(config, PeftVirtual) and config.task_type is None:
            config = replace(config, task_type=_task(anatomy))
        return Source(config)
    hub = AdapterHubConfig(
        name=name,
        methods=method_of(known, source=where),
        model_type=anatomy.model_type,
        model_name=model_name,
        hidden_size=anatomy.hidden_size,
    )
    return Source(hub, _head(name, head, anatomy))


def _value(config: Config) -> dict[str, Any]:
    if isinstance(config, str):
        if config in _PEFT:
            return {"peft_type": _PEFT[config]}
        if config not in NAMED:
            known = (*NAMED, *_PEFT)
            close = difflib.get_close_matches(config, known, n=1)
            raise UsageError(
                "method-unknown",
                f"{config!r} is no method",
                hint=f"did you mean {close[0]!r}?" if close else f"methods are {', '.join(known)}",
            )
        return _union(NAMED[config])
    if isinstance(config, PeftMethod):
        return config.value()
    return dict(config) if isinstance(config, Mapping) else _union((config,))


def _task(anatomy: Anatomy) -> str:
    """The task of a model: the peer puts no virtual tokens before the input of one without a task."""
    if getattr(anatomy.config, "is_encoder_decoder", False):
        return "SEQ_2_SEQ_LM"
    return (
        "CAUSAL_LM" if type(anatomy.model).__name__.endswith(("ForCausalLM", "LMHeadModel")) else "FEATURE_EXTRACTION"
    )


def _union(methods: tuple[Method, ...]) -> dict[str, Any]:
    values = [method_value(method) for method in methods]
    return values[0] if len(values) == 1 else {"architecture": "union", "configs": values}


def _head(name: str, head: Head, anatomy: Anatomy) -> HeadConfig | None:
    if head is None:
        return None
    if not isinstance(head, HeadConfig):
        settings = {"num_labels": head} if isinstance(head, int) else dict(head)
        head = head_of(settings, source=f"the head of {name!r}")
    if head.head_type in LANGUAGE_HEADS:
        words = head.vocab_size or getattr(anatomy.config, "vocab_size", None)
        pairs = head.head_type == "seq2seq_lm"
        inner = None if pairs else head.embedding_size or getattr(anatomy.config, "embedding_size", None)
        inner = inner or anatomy.hidden_size
        _check_tied(anatomy, words, inner)
        head = replace(head, vocab_size=words, embedding_size=None if pairs else inner)
    return replace(head, name=name, hidden_size=anatomy.hidden_size)


def _check_tied(anatomy: Anatomy, words: int | None, width: int) -> None:
    """Raise ``UsageError`` (``head-invalid``) where the base is tied and its embedding is not ``words`` x ``width``."""
    own = getattr(token_embedding(anatomy), "weight", None)
    if own is not None and is_tied(anatomy) and tuple(own.shape) != (words, width):
        raise UsageError(
            "head-invalid",
            f"a head for {words} tokens from {width} values can't use the base's embedding of {tuple(own.shape)}",
            cause="the base is tied (tie_word_embeddings): a language head on it makes scores with its embedding",
            hint="leave out vocab_size and embedding_size, or load the base with tie_word_embeddings=False",
        )
