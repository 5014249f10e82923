"""DistilBERT: the block itself adds and normalises, and attention returns a tuple."""

from __future__ import annotations

from typing import Final

from adpm.runtime.sites.family import Family, Residual, SubLayer

__all__ = ["DISTILBERT"]

DISTILBERT: Final = Family(
    model_type="distilbert",
    adapterhub_class="DistilBertAdapterModel",
    embeddings="embeddings",
    layers="transformer.layer",
    sublayers={
        "mh_adapter": SubLayer(
            hidden="attention",
            norm="sa_layer_norm",
            residual=Residual("", 0, ("hidden_states", "x")),
            adapters="attention_adapters",
        ),
        "output_adapter": SubLayer(
            hidden="ffn",
            norm="output_layer_norm",
            residual=Residual("ffn", 0, ("input",)),
            adapters="output_adapters",
        ),
    },
    linears={
        "selfattn.q": "attention.q_lin",
        "selfattn.k": "attention.k_lin",
        "selfattn.v": "attention.v_lin",
        "intermediate": "ffn.lin1",
        "output": "ffn.lin2",
    },
    pooled=False,
)
