"""PEFT's methods that put virtual tokens before the input or into attention, as frozen values.

Source: ``peft`` 0.21.2, ``config.py`` (``PromptLearningConfig``), ``tuners/prompt_tuning``, ``tuners/p_tuning``,
``tuners/prefix_tuning``, ``tuners/adaption_prompt``.

Their files hold the finished vectors: encoders and projections end with training there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from adpm.formats.adapterhub_keys import probability
from adpm.formats.peft_keys import RANK, PeftMethod, key, word_or_flag
from adpm.formats.reader import Node, flag, integer, one_of

__all__ = ["PeftAdaption", "PeftPrefix", "PeftPrompt", "PeftPromptEncoder", "PeftVirtual"]

_TARGETS: Final = frozenset(
    {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "bias", "fan_in_fan_out"}
)


@dataclass(frozen=True, kw_only=True)
class PeftVirtual(PeftMethod):
    """What they have in common; sizes that a file leaves out are the model's."""

    ABSENT: ClassVar[frozenset[str]] = _TARGETS

    num_virtual_tokens: int = key(RANK, 0)
    token_dim: int | None = key(RANK, None)
    num_transformer_submodules: int | None = key(integer(1, 2), None)
    num_attention_heads: int | None = key(RANK, None)
    num_layers: int | None = key(RANK, None)

    def check(self, node: Node) -> None:
        if not self.num_virtual_tokens:
            node.document.report((*node.path, "num_virtual_tokens"), "is missing")


@dataclass(frozen=True, kw_only=True)
class PeftPrompt(PeftVirtual):
    """``PromptTuningConfig``."""

    KIND: ClassVar[str] = "PROMPT_TUNING"
    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {"prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"}
    )

    prompt_tuning_init: str = key(one_of("RANDOM", "SAMPLE_VOCAB", "TEXT"), "RANDOM")


@dataclass(frozen=True, kw_only=True)
class PeftPromptEncoder(PeftVirtual):
    """``PromptEncoderConfig`` (P-tuning)."""

    KIND: ClassVar[str] = "P_TUNING"

    encoder_reparameterization_type: str = key(one_of("MLP", "LSTM"), "MLP")
    encoder_hidden_size: int | None = key(RANK, None)
    encoder_num_layers: int = key(RANK, 2)
    encoder_dropout: float = key(probability, 0.0)


@dataclass(frozen=True, kw_only=True)
class PeftPrefix(PeftVirtual):
    """``PrefixTuningConfig``."""

    KIND: ClassVar[str] = "PREFIX_TUNING"

    encoder_hidden_size: int | None = key(RANK, None)
    prefix_projection: bool = key(flag, False)
    init_weights: bool | str | None = key(word_or_flag("zero"), None)


@dataclass(frozen=True, kw_only=True)
class PeftAdaption(PeftMethod):
    """``AdaptionPromptConfig``: ``adapter_len`` prompts in each of the last ``adapter_layers`` attentions.

    ``target_modules`` is the last part of the attentions' names; None: the family's own.
    """

    KIND: ClassVar[str] = "ADAPTION_PROMPT"
    ABSENT: ClassVar[frozenset[str]] = (_TARGETS - {"target_modules"}) | {"modules_to_save"}

    adapter_len: int = key(RANK, 0)
    adapter_layers: int = key(integer(1), 0)

    def check(self, node: Node) -> None:
        for name in ("adapter_len", "adapter_layers"):
            if not getattr(self, name):
                node.document.report((*node.path, name), "is missing")
        if not isinstance(self.target_modules, str) and self.target_modules:
            node.document.report((*node.path, "target_modules"), "is one name, and no list")
