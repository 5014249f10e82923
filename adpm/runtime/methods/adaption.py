"""Adaption prompt (LLaMA-Adapter): attention to prompts of its own beside an attention's, by a gate that starts at 0.

    y + W_o (g softmax(q P_k^T / sqrt(d)) P_v)          P_k = W_k p + b_k,  P_v = W_v p + b_v

p: n x hidden; g: one number; q: the attention's queries as its layer makes them, with its rotary positions; heads that
share keys share those of the prompts. The prompts have no position and no mask. GPT-2 makes q, k, v in one layer, and
has no W_o here, as in the peer. The softmax is in float32. W_k, W_v and W_o are the base's alone.

Sources: Zhang et al. 2023 (2303.16199); ``peft`` 0.21.2, ``tuners/adaption_prompt/layer.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_prompts import PeftAdaption
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.part import Blueprint

__all__ = ["AdaptionPart", "adaption_blueprints"]


@dataclass(frozen=True, slots=True)
class _Layers:
    """The linear layers of an attention by name; ``fused``: q, k and v come out of ``query``."""

    attention: str
    query: str
    key: str
    value: str
    out: str | None
    fused: bool = False


_PLAIN: Final = _Layers("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")
_FAMILIES: Final[Mapping[str, _Layers]] = {
    "gpt2": _Layers("attn", "c_attn", "c_attn", "c_attn", None, fused=True),
    "llama": _PLAIN,
    "mistral": _PLAIN,
}


class AdaptionPart(HookedPart):
    """What acts on the attention called ``layer``. Slots: ``prompt``, [1, n, hidden], and ``gate``, [1]."""

    layer: str

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], layer: str, layers: _Layers) -> None:
        super().__init__(adapter, names)
        self.layer, self.layers = layer, layers
        self.query = Capture()

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:  # noqa: ARG002 - a HookedPart's
        yield Act(Point(f"{self.layer}.{self.layers.query}", "after"), _See(self), Order.SEE)
        yield Act(Point(self.layer, "after"), _Add(self), Order.SUBLAYER)

    def change(self, attention: nn.Module, projected: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """What is added to the attention's output. Shape: rows x positions x hidden."""
        layers = self.layers
        size = int(attention.head_dim)  # type: ignore[arg-type]  # as every attention of these families has it
        if layers.fused:
            query = projected.chunk(3, dim=-1)[0]
            _, keys, values = _bare(attention, layers.key, self["prompt"]).chunk(3, dim=-1)
        else:
            query = projected
            keys, values = (_bare(attention, name, self["prompt"]) for name in (layers.key, layers.value))
        query, keys, values = (x.view(*x.shape[:2], -1, size).transpose(1, 2) for x in (query, keys, values))
        if rotary is not None:
            query = query * rotary[0].unsqueeze(1) + _turned(query) * rotary[1].unsqueeze(1)
        shared = query.shape[1] // keys.shape[1]
        keys, values = (x.repeat_interleave(shared, dim=1).to(query.dtype) for x in (keys, values))
        scores = query @ keys.transpose(2, 3) / math.sqrt(size)
        shares = self["gate"] * torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        out = (shares @ values).transpose(1, 2).flatten(2)
        return out if layers.out is None else _bare(attention, layers.out, out)


def _bare(attention: nn.Module, name: str, x: Tensor) -> Tensor:
    """The base's own layer on ``x``, without the hooks that stand on it."""
    out: Tensor = getattr(attention, name).forward(x)
    return out


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class _See:
    def __init__(self, part: AdaptionPart) -> None:
        self.part = part

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:  # noqa: ARG002 - a hook's
        self.part.query.put(output)


class _Add:
    def __init__(self, part: AdaptionPart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        added = self.part.change(module, self.part.query.take(), kwargs.get("position_embeddings"))
        if isinstance(output, Tensor):
            return output + added
        return (output[0] + added, *output[1:])


def adaption_blueprints(config: PeftAdaption, anatomy: Anatomy, prefix: str) -> list[Blueprint]:
    """A part for each of the last attentions. Raises ``AdapterError`` (``adapter-misfit``, ``family-unsupported``)."""
    layers = _FAMILIES.get(anatomy.model_type)
    if layers is None:
        raise AdapterError(
            "family-unsupported",
            f"adpm runs no adaption prompt on {type(anatomy.model).__name__}",
            cause=f"its model type is {anatomy.model_type!r}; known are {', '.join(sorted(_FAMILIES))}",
        )
    wanted = config.target_modules
    target = wanted if isinstance(wanted, str) and wanted else layers.attention
    names = [name for name in anatomy.modules if name.endswith(f".{target}")]
    if len(names) < config.adapter_layers:
        raise AdapterError(
            "adapter-misfit",
            f"the adapter is for {config.adapter_layers} attentions, and the model has {len(names)}",
            cause=f"it targets {target}",
        )
    slots = (
        Slot("prompt", "adaption_prompt", (1, config.adapter_len, anatomy.hidden_size)),
        Slot("gate", "adaption_gate", (1,)),
    )
    return [
        Blueprint(
            key=f"{name}.adaption".replace(".", "/"),
            file=(f"{prefix}{name}.", ""),
            slots=slots,
            build=partial(AdaptionPart, layer=name, layers=layers),
            start=_start,
        )
        for name in names[-config.adapter_layers :]
    ]


def _start(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """Prompts as an embedding starts, the gate shut."""
    nn.init.normal_(tensors["prompt"], generator=generator)
    nn.init.zeros_(tensors["gate"])
