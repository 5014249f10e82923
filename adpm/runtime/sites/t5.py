"""T5 and mT5. The encoder's dropout serves the embeddings first and the last states at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from adpm.runtime.sites.family import Attention, Embeddings, Family, Stack, SubLayer, SubLayerName, add

__all__ = ["MT5", "T5"]


def _sublayer(name: SubLayerName, place: int) -> SubLayer:
    path = f"layer.{place}"
    return add(name, f"{path}.dropout", f"{path}.layer_norm", path, optional=name == "cross_adapter")


def _attention(path: str, prefix: Literal["self", "encoder", "cross"]) -> Attention:
    return Attention((path,), prefix, {word: (f"{path}.{word}",) for word in ("q", "k", "v", "o")})


def _stack(path: str, sublayers: tuple[SubLayer, ...], *attentions: Attention) -> Stack:
    last = f"layer.{len(sublayers) - 1}.DenseReluDense"
    return Stack(
        layers=(f"{path}.block",),
        sublayers=sublayers,
        attentions=attentions,
        linears={"intermediate": (f"{last}.wi_1", f"{last}.wi"), "output": (f"{last}.wo",)},
    )


T5: Final = Family(
    model_type="t5",
    adapterhub_class="T5AdapterModel",
    embeddings=Embeddings(("encoder.dropout",), first_in="encoder", owner="encoder.", prompts=False),
    stacks=(
        _stack(
            "encoder",
            (_sublayer("mh_adapter", 0), _sublayer("output_adapter", 1)),
            _attention("layer.0.SelfAttention", "encoder"),
        ),
        _stack(
            "decoder",
            (_sublayer("mh_adapter", 0), _sublayer("cross_adapter", 1), _sublayer("output_adapter", 2)),
            _attention("layer.0.SelfAttention", "self"),
            _attention("layer.1.EncDecAttention", "cross"),
        ),
    ),
    base="transformer",
)
MT5: Final = replace(T5, model_type="mt5", adapterhub_class="MT5AdapterModel")
