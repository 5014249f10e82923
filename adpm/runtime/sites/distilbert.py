"""DistilBERT: the block itself adds and normalises, and attention returns a tuple."""

from __future__ import annotations

from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, Tap, norm

__all__ = ["DISTILBERT"]

DISTILBERT: Final = Family(
    model_type="distilbert",
    adapterhub_class="DistilBertAdapterModel",
    embeddings=Embeddings(("embeddings",)),
    stacks=(
        Stack(
            layers=("transformer.layer",),
            sublayers=(
                norm(
                    "mh_adapter",
                    "attention",
                    Tap(("",), keywords=("hidden_states", "x")),
                    "sa_layer_norm",
                    "attention_adapters",
                ),
                norm(
                    "output_adapter",
                    "ffn",
                    Tap(("ffn",), keywords=("input",)),
                    "output_layer_norm",
                    "output_adapters",
                ),
            ),
            attentions=(
                Attention(
                    ("attention",),
                    "self",
                    {
                        "q": ("attention.q_lin",),
                        "k": ("attention.k_lin",),
                        "v": ("attention.v_lin",),
                        "o": ("attention.out_lin",),
                    },
                    files="self",
                ),
            ),
            linears={"intermediate": ("ffn.lin1",), "output": ("ffn.lin2",)},
        ),
    ),
)
