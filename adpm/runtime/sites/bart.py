"""BART, PLBART, mBART and Whisper: encoder and decoder with functional dropout, so that h is taken before it.

BART and PLBART normalise the sums; mBART and Whisper have their norms before the sub-layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, Tap, add, norm

__all__ = ["BART", "MBART", "PLBART", "WHISPER"]


def _attention(path: str, prefix: Literal["self", "encoder", "cross"]) -> Attention:
    linears = {"q": (f"{path}.q_proj",), "k": (f"{path}.k_proj",), "v": (f"{path}.v_proj",), "o": (f"{path}.out_proj",)}
    return Attention((path,), prefix, linears, optional=prefix == "cross")


def _stacks(mh: SubLayer, cross: SubLayer, output: SubLayer) -> tuple[Stack, ...]:
    linears = {"intermediate": ("fc1",), "output": ("fc2",)}
    cross = replace(cross, optional=True)
    return (
        Stack(("encoder.layers",), (mh, output), (_attention("self_attn", "encoder"),), linears),
        Stack(
            ("decoder.layers",),
            (mh, cross, output),
            (_attention("self_attn", "self"), _attention("encoder_attn", "cross")),
            linears,
        ),
    )


BART: Final = Family(
    model_type="bart",
    adapterhub_class="BartAdapterModel",
    embeddings=Embeddings(("encoder.layernorm_embedding",), owner="encoder."),
    stacks=_stacks(
        norm("mh_adapter", "self_attn", Tap(("",)), "self_attn_layer_norm", "attention_adapters"),
        norm(
            "cross_adapter",
            "encoder_attn",
            Tap(("encoder_attn",)),
            "encoder_attn_layer_norm",
            "cross_attention_adapters",
        ),
        norm("output_adapter", "fc2", Tap(("fc1",), keywords=("input",)), "final_layer_norm", "output_adapters"),
    ),
)
PLBART: Final = replace(BART, model_type="plbart", adapterhub_class="PLBartAdapterModel")
MBART: Final = replace(
    BART,
    model_type="mbart",
    adapterhub_class="MBartAdapterModel",
    stacks=_stacks(
        add("mh_adapter", "self_attn", "self_attn_layer_norm", "attention_adapters"),
        add("cross_adapter", "encoder_attn", "encoder_attn_layer_norm", "cross_attention_adapters"),
        add("output_adapter", "fc2", "final_layer_norm", "output_adapters"),
    ),
)
# AdapterHub puts Whisper's invertible adapters behind the encoder's last norm.
WHISPER: Final = replace(
    MBART,
    model_type="whisper",
    adapterhub_class="WhisperAdapterModel",
    embeddings=Embeddings(("encoder.layer_norm",), owner="encoder."),
)
