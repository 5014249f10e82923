"""ALBERT: one layer serves many times. A layer that is shared has one number and one adapter.

AdapterHub adapts the attention's input instead of its output (it swaps the two arguments); so does this table.
"""

from __future__ import annotations

from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, Tap, norm

__all__ = ["ALBERT"]

ALBERT: Final = Family(
    model_type="albert",
    adapterhub_class="AlbertAdapterModel",
    embeddings=Embeddings(("embeddings",)),
    stacks=(
        Stack(
            layers=("encoder.albert_layer_groups.*.albert_layers",),
            sublayers=(
                SubLayer(
                    "mh_adapter",
                    hidden=Tap(("attention",)),
                    residual=(Tap(("attention.output_dropout",), "after"),),
                    adapters="attention.attention_adapters",
                    ends="norm",
                    norm=("attention.LayerNorm",),
                ),
                norm(
                    "output_adapter",
                    "ffn_output",
                    Tap(("ffn",), keywords=("input",)),
                    "full_layer_layer_norm",
                    "output_adapters",
                ),
            ),
            attentions=(
                Attention(
                    ("attention",),
                    "self",
                    {
                        "q": ("attention.query",),
                        "k": ("attention.key",),
                        "v": ("attention.value",),
                        "o": ("attention.dense",),
                    },
                ),
            ),
            linears={"intermediate": ("ffn",), "output": ("ffn_output",)},
            recurrent=True,
        ),
    ),
    pooled=True,
)
