"""ModernBERT: norms before the sub-layers, which AdapterHub does not see: it takes what they give for the residual.

Its attention adapters look through the last layer's ``mlp_norm``, whatever the layer.
"""

from __future__ import annotations

from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, Tap

__all__ = ["MODERNBERT"]

MODERNBERT: Final = Family(
    model_type="modernbert",
    adapterhub_class="ModernBertModel",
    embeddings=Embeddings(("embeddings",), prompts=False),
    stacks=(
        Stack(
            layers=("layers",),
            sublayers=(
                SubLayer(
                    "mh_adapter",
                    hidden=Tap(("attn",), "after"),
                    residual=(Tap(("attn",)),),
                    adapters="attention_adapters",
                    ends="free",
                    norm=("mlp_norm",),
                    norm_of_last=True,
                ),
                SubLayer(
                    "output_adapter",
                    hidden=Tap(("mlp",), "after"),
                    residual=(Tap(("mlp",)),),
                    adapters="output_adapters",
                    ends="free",
                ),
            ),
            attentions=(Attention(("attn",), "self", {"qkv": ("attn.Wqkv",), "o": ("attn.Wo",)}),),
            linears={"intermediate": ("mlp.Wi",), "output": ("mlp.Wo",)},
        ),
    ),
)
