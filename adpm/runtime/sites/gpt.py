"""GPT-2 and GPT-J. GPT-J's two sub-layers act side by side: the second one's residual is the first one's sum."""

from __future__ import annotations

from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, Tap, add

__all__ = ["GPT2", "GPTJ"]

GPT2: Final = Family(
    model_type="gpt2",
    adapterhub_class="GPT2AdapterModel",
    embeddings=Embeddings(("drop",), prompts=False),
    stacks=(
        Stack(
            layers=("h",),
            sublayers=(
                add("mh_adapter", "attn", "ln_1", "attention_adapters"),
                add("output_adapter", "mlp", "ln_2", "output_adapters"),
            ),
            attentions=(Attention(("attn",), "self", {"qkv": ("attn.c_attn",), "o": ("attn.c_proj",)}),),
            linears={"intermediate": ("mlp.c_fc",), "output": ("mlp.c_proj",)},
        ),
    ),
)
GPTJ: Final = Family(
    model_type="gptj",
    adapterhub_class="GPTJAdapterModel",
    embeddings=Embeddings(("drop",), prompts=False),
    stacks=(
        Stack(
            layers=("h",),
            sublayers=(
                add("mh_adapter", "attn", "ln_1", "attention_adapters"),
                SubLayer(
                    "output_adapter",
                    hidden=Tap(("mlp",), "after"),
                    residual=(Tap(("attn",), "after"), Tap(("ln_1",))),
                    adapters="output_adapters",
                    ends="add",
                ),
            ),
            attentions=(
                Attention(
                    ("attn",),
                    "self",
                    {"q": ("attn.q_proj",), "k": ("attn.k_proj",), "v": ("attn.v_proj",), "o": ("attn.out_proj",)},
                ),
            ),
            linears={"intermediate": ("mlp.fc_in",), "output": ("mlp.fc_out",)},
        ),
    ),
)
