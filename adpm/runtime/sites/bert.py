"""BERT and the families built like it: transformers 4.57 and 5.x name their modules alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adpm.runtime.sites.family import Family, Residual, SubLayer

__all__ = ["BERT", "ROBERTA", "XLM_ROBERTA"]


def _sublayer(path: str) -> SubLayer:
    return SubLayer(
        hidden=f"{path}.dropout",
        norm=f"{path}.LayerNorm",
        residual=Residual(path, 1, ("input_tensor",)),
        adapters=path,
    )


BERT: Final = Family(
    model_type="bert",
    adapterhub_class="BertAdapterModel",
    embeddings="embeddings",
    layers="encoder.layer",
    sublayers={"mh_adapter": _sublayer("attention.output"), "output_adapter": _sublayer("output")},
    linears={
        "selfattn.q": "attention.self.query",
        "selfattn.k": "attention.self.key",
        "selfattn.v": "attention.self.value",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
    },
    pooled=True,
)
ROBERTA: Final = replace(BERT, model_type="roberta", adapterhub_class="RobertaAdapterModel")
XLM_ROBERTA: Final = replace(BERT, model_type="xlm-roberta", adapterhub_class="XLMRobertaAdapterModel")
