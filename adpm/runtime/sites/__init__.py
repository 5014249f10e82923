"""The anatomy of each model family, as data: a new family is a table, not code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adpm.runtime.sites.albert import ALBERT
from adpm.runtime.sites.bart import BART, MBART, PLBART, WHISPER
from adpm.runtime.sites.distilbert import DISTILBERT
from adpm.runtime.sites.encoders import (
    BERT,
    BERT_GENERATION,
    DEBERTA,
    DEBERTA_V2,
    ELECTRA,
    MPNET,
    ROBERTA,
    XLM_ROBERTA,
)
from adpm.runtime.sites.family import Family
from adpm.runtime.sites.gpt import GPT2, GPTJ
from adpm.runtime.sites.llama import GEMMA2, GEMMA3, GEMMA3_TEXT, LLAMA, MISTRAL, PHI3, QWEN2, QWEN3
from adpm.runtime.sites.modernbert import MODERNBERT
from adpm.runtime.sites.t5 import MT5, T5
from adpm.runtime.sites.vision import BEIT, CLIP, CLIP_TEXT, CLIP_VISION, VIT

__all__ = ["FAMILIES", "Family"]

FAMILIES: Final[Mapping[str, Family]] = {
    family.model_type: family
    for family in (
        *(BERT, BERT_GENERATION, ROBERTA, XLM_ROBERTA, DISTILBERT, ELECTRA, DEBERTA, DEBERTA_V2, ALBERT, MPNET),
        MODERNBERT,
        *(GPT2, GPTJ, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, GEMMA3_TEXT, PHI3),
        *(T5, MT5, BART, PLBART, MBART, WHISPER, VIT, BEIT, CLIP, CLIP_TEXT, CLIP_VISION),
    )
}
