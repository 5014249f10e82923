"""Llama and the decoders built like it: norms before the sub-layers, the gated feed-forward.

AdapterHub calls Llama's and Mistral's ``down_proj`` intermediate and their ``up_proj`` output. The families that it
reaches by its interface (Qwen, Gemma) have the two as one would expect; so has Phi-3, which it does not know. Gemma has
norms after the sub-layers too, and there an adapter with ``original_ln_before`` looks through the last layer's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, SubLayerName, Tap, add

__all__ = ["GEMMA2", "GEMMA3", "GEMMA3_TEXT", "LLAMA", "MISTRAL", "PHI3", "QWEN2", "QWEN3"]

_ATTENTION: Final = Attention(
    ("self_attn",),
    "self",
    {
        "q": ("self_attn.q_proj",),
        "k": ("self_attn.k_proj",),
        "v": ("self_attn.v_proj",),
        "o": ("self_attn.o_proj",),
    },
)
_STACK: Final = Stack(
    layers=("layers",),
    sublayers=(
        add("mh_adapter", "self_attn", "input_layernorm", "attention_adapters"),
        add("output_adapter", "mlp", "post_attention_layernorm", "output_adapters"),
    ),
    attentions=(_ATTENTION,),
    linears={"intermediate": ("mlp.up_proj",), "output": ("mlp.down_proj",)},
)
QWEN2: Final = Family(
    model_type="qwen2", adapterhub_class="Qwen2Model", embeddings=Embeddings(("embed_tokens",)), stacks=(_STACK,)
)
QWEN3: Final = replace(QWEN2, model_type="qwen3", adapterhub_class="Qwen3Model")
LLAMA: Final = replace(
    QWEN2,
    model_type="llama",
    adapterhub_class="LlamaAdapterModel",
    stacks=(replace(_STACK, linears={"intermediate": ("mlp.down_proj",), "output": ("mlp.up_proj",)}),),
)
MISTRAL: Final = replace(LLAMA, model_type="mistral", adapterhub_class="MistralAdapterModel")
PHI3: Final = replace(
    QWEN2,
    model_type="phi3",
    adapterhub_class="Phi3Model",
    stacks=(
        replace(
            _STACK,
            sublayers=(
                add("mh_adapter", "resid_attn_dropout", "input_layernorm", "attention_adapters"),
                add("output_adapter", "resid_mlp_dropout", "post_attention_layernorm", "output_adapters"),
            ),
            attentions=(
                Attention(("self_attn",), "self", {"qkv": ("self_attn.qkv_proj",), "o": ("self_attn.o_proj",)}),
            ),
            linears={"intermediate": ("mlp.gate_up_proj",), "output": ("mlp.down_proj",)},
        ),
    ),
)


def _normed(name: SubLayerName, hidden: str, residual: str, layer_norm: str, adapters: str) -> SubLayer:
    return SubLayer(
        name,
        hidden=Tap((hidden,), "after"),
        residual=(Tap((residual,)),),
        adapters=adapters,
        ends="free",
        norm=(layer_norm,),
        norm_of_last=True,
    )


_GEMMA: Final = replace(
    _STACK,
    sublayers=(
        _normed("mh_adapter", "self_attn", "input_layernorm", "post_attention_layernorm", "attention_adapters"),
        _normed("output_adapter", "mlp", "pre_feedforward_layernorm", "post_feedforward_layernorm", "output_adapters"),
    ),
)
GEMMA2: Final = replace(
    QWEN2,
    model_type="gemma2",
    adapterhub_class="Gemma2Model",
    embeddings=Embeddings(("embed_tokens",), unscaled=True),
    stacks=(_GEMMA,),
)
GEMMA3_TEXT: Final = replace(
    GEMMA2,
    model_type="gemma3_text",
    adapterhub_class="Gemma3TextModel",
    embeddings=Embeddings(("embed_tokens",)),
    base="model",
)
GEMMA3: Final = replace(
    GEMMA3_TEXT,
    model_type="gemma3",
    adapterhub_class="Gemma3Model",
    embeddings=Embeddings(("language_model.embed_tokens",)),
    stacks=(replace(_GEMMA, layers=("language_model.layers",), config="text_config"),),
)
