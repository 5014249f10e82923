"""BERT and the families built like it. transformers 4.57 and 5.x name their modules alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Names, Stack, SubLayer, SubLayerName, Tap, norm

__all__ = ["BERT", "BERT_GENERATION", "DEBERTA", "DEBERTA_V2", "ELECTRA", "MPNET", "ROBERTA", "XLM_ROBERTA"]


def _dense(name: SubLayerName, path: str) -> SubLayer:
    """The module at ``path`` has a dense layer, dropout and the norm, and gets the residual as its second argument."""
    return norm(
        name, f"{path}.dropout", Tap((path,), position=1, keywords=("input_tensor",)), f"{path}.LayerNorm", path
    )


def _stack(*attentions: Attention, cross: bool = False) -> Stack:
    attended = replace(_dense("mh_adapter", "crossattention.output"), optional=True)  # the peer's word for it too
    return Stack(
        layers=("encoder.layer",),
        sublayers=(
            _dense("mh_adapter", "attention.output"),
            *((attended,) if cross else ()),
            _dense("output_adapter", "output"),
        ),
        attentions=attentions,
        linears={"intermediate": ("intermediate.dense",), "output": ("output.dense",)},
    )


def _linears(path: str, q: str, k: str, v: str, o: str) -> Mapping[str, Names]:
    return {"q": (f"{path}.{q}",), "k": (f"{path}.{k}",), "v": (f"{path}.{v}",), "o": (o,)}


BERT: Final = Family(
    model_type="bert",
    adapterhub_class="BertAdapterModel",
    embeddings=Embeddings(("embeddings",)),
    stacks=(
        _stack(
            Attention(
                ("attention.self",),
                "self",
                _linears("attention.self", "query", "key", "value", "attention.output.dense"),
            ),
            Attention(
                ("crossattention.self",),
                "cross",
                _linears("crossattention.self", "query", "key", "value", "crossattention.output.dense"),
                optional=True,
            ),
            cross=True,
        ),
    ),
    pooled=True,
)
ROBERTA: Final = replace(BERT, model_type="roberta", adapterhub_class="RobertaAdapterModel")
XLM_ROBERTA: Final = replace(BERT, model_type="xlm-roberta", adapterhub_class="XLMRobertaAdapterModel")
BERT_GENERATION: Final = replace(
    BERT, model_type="bert-generation", adapterhub_class="BertGenerationAdapterModel", pooled=False
)
ELECTRA: Final = replace(BERT, model_type="electra", adapterhub_class="ElectraAdapterModel", pooled=False)
DEBERTA_V2: Final = replace(
    BERT,
    model_type="deberta-v2",
    adapterhub_class="DebertaV2AdapterModel",
    stacks=(
        _stack(
            Attention(
                ("attention.self",),
                "self",
                _linears("attention.self", "query_proj", "key_proj", "value_proj", "attention.output.dense"),
            )
        ),
    ),
    pooled=False,
)
DEBERTA: Final = replace(
    DEBERTA_V2,
    model_type="deberta",
    adapterhub_class="DebertaAdapterModel",
    stacks=(
        _stack(
            Attention(
                ("attention.self",), "self", {"qkv": ("attention.self.in_proj",), "o": ("attention.output.dense",)}
            )
        ),
    ),
)
# The peer has no MPNet; its attention adds and normalises itself.
MPNET: Final = replace(
    BERT,
    model_type="mpnet",
    adapterhub_class="MPNetModel",
    stacks=(
        replace(
            _stack(
                Attention(("attention.attn",), "self", _linears("attention.attn", "q", "k", "v", "attention.attn.o"))
            ),
            sublayers=(
                norm("mh_adapter", "attention.dropout", Tap(("attention",)), "attention.LayerNorm", "attention"),
                _dense("output_adapter", "output"),
            ),
        ),
    ),
)
