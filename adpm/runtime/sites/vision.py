"""ViT, BEiT and CLIP. transformers 5 renamed most of ViT's and BEiT's modules and took a level out of CLIP's towers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, SubLayerName, add

__all__ = ["BEIT", "CLIP", "CLIP_TEXT", "CLIP_VISION", "VIT"]

_ATTENTION: Final = Attention(
    ("attention.attention", "attention"),
    "self",
    {
        "q": ("attention.attention.query", "attention.q_proj"),
        "k": ("attention.attention.key", "attention.k_proj"),
        "v": ("attention.attention.value", "attention.v_proj"),
        "o": ("attention.output.dense", "attention.o_proj"),
    },
)
_FILES: Final = {
    "attention": "attention.attention",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_RENAMED: Final = (
    *((f"encoder.layer.#.{four}", f"layers.#.{five}") for five, four in _FILES.items() if "." in five),
    ("encoder.layer.#.attention.attention", "layers.#.attention"),
    ("encoder.layer", "layers"),
)
VIT: Final = Family(
    model_type="vit",
    adapterhub_class="ViTAdapterModel",
    embeddings=Embeddings(("embeddings",), invertible=False),
    stacks=(
        Stack(
            layers=("encoder.layer", "layers"),
            sublayers=(
                add("mh_adapter", "attention", "layernorm_before", "attention_adapters"),
                add("output_adapter", ("output.dropout", "mlp"), "layernorm_after", "output.output_adapters"),
            ),
            attentions=(_ATTENTION,),
            linears={"intermediate": ("intermediate.dense", "mlp.fc1"), "output": ("output.dense", "mlp.fc2")},
            files=_FILES,
        ),
    ),
    pooled=True,
    renamed=_RENAMED,
)


def _by_turns(name: SubLayerName, layer_norm: str, adapters: str) -> SubLayer:
    """BEiT scales both sub-layers' outputs and then sends them through one ``drop_path``."""
    return replace(add(name, "drop_path", layer_norm, adapters), by_turns=True)


BEIT: Final = replace(
    VIT,
    model_type="beit",
    renamed=(
        ("encoder.layer.#.attention.attention.relative_position_bias", "layers.#.relative_position_bias"),
        *_RENAMED,
    ),
    embeddings=Embeddings(("embeddings",), invertible=False, prompts=False),
    adapterhub_class="BeitAdapterModel",
    stacks=(
        replace(
            VIT.stacks[0],
            sublayers=(
                _by_turns("mh_adapter", "layernorm_before", "attention_adapters"),
                _by_turns("output_adapter", "layernorm_after", "output_adapters"),
            ),
        ),
    ),
)


def _tower(name: str, config: str) -> Stack:
    return Stack(
        layers=(f"{name}.encoder.layers", "encoder.layers"),
        sublayers=(
            add("mh_adapter", "self_attn", "layer_norm1", "attention_adapters"),
            add("output_adapter", "mlp", "layer_norm2", "output_adapters"),
        ),
        attentions=(
            Attention(
                ("self_attn",),
                "self",
                {
                    "q": ("self_attn.q_proj",),
                    "k": ("self_attn.k_proj",),
                    "v": ("self_attn.v_proj",),
                    "o": ("self_attn.out_proj",),
                },
            ),
        ),
        linears={"intermediate": ("mlp.fc1",), "output": ("mlp.fc2",)},
        config=config,
    )


CLIP: Final = Family(
    model_type="clip",
    adapterhub_class="CLIPAdapterModel",
    embeddings=Embeddings(("text_model.embeddings", "embeddings"), owner="text_model."),
    stacks=(_tower("text_model", "text_config"), _tower("vision_model", "vision_config")),
    pooled=True,
    base="clip",
)
CLIP_TEXT: Final = replace(
    CLIP,
    model_type="clip_text_model",
    adapterhub_class="CLIPTextModel",
    stacks=(_tower("text_model", ""),),
    renamed=(("text_model", ""),),
)
CLIP_VISION: Final = replace(
    CLIP,
    model_type="clip_vision_model",
    adapterhub_class="CLIPVisionModel",
    embeddings=Embeddings(("vision_model.embeddings", "embeddings"), invertible=False),
    stacks=(_tower("vision_model", ""),),
    renamed=(("vision_model", ""),),
)
