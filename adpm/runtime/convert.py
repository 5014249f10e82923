"""From one peer's format to the other's, where both mean the same by a method.

LoRA goes both ways. So does (IA)3, as far as it scales outputs: what PEFT calls feed-forward has its input scaled,
which AdapterHub never does. DoRA does where nothing in which the two differ is there: AdapterHub's scales the layer's
bias too, and leaves the adapter's scale out of its norm. VeRA does where all layers are of one size and AdapterHub's
matrices are diagonal: what stands there are PEFT's vectors. Prompts and prefixes are one name for two things
(``_APART``).

What can't be the same is refused (``format-unsupported``). Alone, a converted adapter gives the same output; in a stack
each format keeps its own meaning (``methods/low_rank.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn, Protocol, cast

import torch
from torch import Tensor

from adpm.errors import AdapterError
from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_methods import LowRank, PrefixTuning, PromptTuning
from adpm.formats.peft import PeftLora, PeftMethod
from adpm.formats.peft_linear import PeftIa3, PeftVera
from adpm.formats.peft_prompts import PeftPrefix, PeftVirtual
from adpm.runtime.adapter import Adapter, Source
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.ia3 import Ia3Part
from adpm.runtime.methods.low_rank import PAIR, LowRankPart
from adpm.runtime.methods.vera import PROJECTION, VeraPart
from adpm.runtime.peft_targets import targeted_by
from adpm.runtime.sites.family import LOCATIONS

__all__ = ["Slots", "to_adapterhub", "to_peft"]


class Slots(Protocol):
    """Tensors by slot: a part, or what stands for one."""

    def __getitem__(self, slot: str) -> Tensor: ...


Parts = Mapping[str, Slots]

_PREFIXES: Final = "PEFT counts a prefix as positions before the text's, AdapterHub does not"
_APART: Final[Mapping[type, str]] = {
    PromptTuning: "AdapterHub puts its vectors behind the embeddings' norm, PEFT before it",
    PeftPrefix: _PREFIXES,
    PeftVirtual: "PEFT puts its vectors before the embeddings' norm, AdapterHub behind it",
    PrefixTuning: _PREFIXES,
}


def to_peft(adapter: Adapter, name: str, anatomy: Anatomy) -> tuple[Source, Parts]:
    """Settings and tensors of the same adapter in PEFT's format."""

    def refuse(why: str) -> NoReturn:
        _refuse(name, "PEFT", why)

    config = cast("AdapterHubConfig", adapter.source.config)
    method = config.methods[0]
    if len(config.methods) != 1 or adapter.source.head is not None:
        refuse("PEFT has neither heads of its own nor several methods in one adapter")
    if not isinstance(method, LowRank):
        refuse(_apart(method) or "PEFT has no such method")
    if method.use_gating:
        refuse("PEFT's LoRA has no gates")
    if any(isinstance(part, FusedPart) for part in adapter.parts.values()):
        refuse("one of its layers makes queries, keys and values at once, each with matrices of its own")
    parts = [part for part in adapter.parts.values() if isinstance(part, LowRankPart)]
    layers = [part.layer for part in parts]
    short = tuple(sorted({layer.rpartition(".")[2] for layer in layers}))
    exact = targeted_by(short, anatomy) == set(layers)
    common: dict[str, Any] = {
        "target_modules": short if exact else tuple(layer.removeprefix(anatomy.prefix) for layer in layers),
        "base_model_name_or_path": config.model_name,
    }
    if method.composition_mode == "scale":
        vectors = {_key(part.layer): {"l": part["vector"] * part.options.scale} for part in parts}
        return Source(PeftIa3(**common)), vectors
    if method.is_vera:
        if method.use_dora or not all(_is_diagonal(part[slot]) for part in parts for slot in ("vera_D", "vera_B")):
            refuse("PEFT's VeRA has vectors where AdapterHub's has trained whole matrices, and no DoRA")
        scaled = {_key(part.layer): _lambdas(part) for part in parts}
        vera = PeftVera(r=method.r, vera_dropout=method.dropout, **common)
        return Source(vera), {**scaled, PROJECTION: adapter.parts[PAIR]}
    if method.use_dora and (why := _dora_differs(parts, anatomy)):
        refuse(why)
    lora = PeftLora(
        r=method.r, lora_alpha=method.alpha, lora_dropout=method.dropout, use_dora=method.use_dora, **common
    )
    return Source(lora), {_key(part.layer): _pair(part, (-1,)) for part in parts}


def to_adapterhub(adapter: Adapter, name: str, anatomy: Anatomy) -> tuple[Source, Parts]:
    """Settings and tensors of the same adapter in AdapterHub's format."""

    def refuse(why: str) -> NoReturn:
        _refuse(name, "AdapterHub", why)

    config = cast("PeftMethod", adapter.source.config)
    if config.modules_to_save:
        refuse("AdapterHub saves no modules of the model's own")
    tensors: dict[str, Slots]
    shared: dict[str, Slots] = {}
    if isinstance(config, PeftIa3):
        if any(part.feeds for part in adapter.parts.values() if isinstance(part, Ia3Part)):
            refuse("AdapterHub's (IA)3 scales outputs alone, PEFT's the input of what it calls feed-forward")
        vectors = {part.place.name: part for part in adapter.parts.values() if isinstance(part, Ia3Part)}
        tensors = {layer: {"vector": part["l"]} for layer, part in vectors.items()}
        settings: dict[str, Any] = {"r": 1, "alpha": 1, "composition_mode": "scale", "init_weights": "ia3"}
    elif isinstance(config, PeftLora):
        parts = [part for part in adapter.parts.values() if isinstance(part, LowRankPart)]
        if len(parts) != len(adapter.parts):
            refuse("AdapterHub's LoRA is on linear layers alone")
        if why := _lora_differs(config, parts, anatomy):
            refuse(why)
        rank = parts[0]["A"].shape[0]
        tensors = {part.layer: _pair(part, (-1, 1)) for part in parts}
        settings = {"r": rank, "alpha": parts[0].options.scale * rank, "use_dora": config.use_dora}
        settings |= {"dropout": config.lora_dropout}
    elif isinstance(config, PeftVera):
        own = {part.layer: part for part in adapter.parts.values() if isinstance(part, VeraPart)}
        if config.bias != "none" or len({(part.place.inputs, part.place.outputs) for part in own.values()}) != 1:
            refuse("AdapterHub's VeRA has no biases, and one pair of matrices for layers of one size")
        tensors = {
            layer: {"vera_D": part["lambda_d"].diag(), "vera_B": part["lambda_b"].diag()} for layer, part in own.items()
        }
        shared[PAIR] = adapter.parts[PROJECTION]
        settings = {"r": config.r, "alpha": config.r, "dropout": config.vera_dropout}
        settings |= {"vera_d": config.d_initial, "vera_b": 0.0, "init_weights": "vera"}
    else:
        refuse(_apart(config) or "AdapterHub has no such method")
    places, why = _places(tensors, anatomy)
    if why is not None:
        refuse(why)
    method = LowRank(**{**settings, **places})
    hub = AdapterHubConfig(name, (method,), anatomy.model_type, config.base_model_name_or_path, anatomy.hidden_size)
    return Source(hub), {**{_key(anatomy.file_name(layer)): found for layer, found in tensors.items()}, **shared}


def _refuse(name: str, peer: str, why: str) -> NoReturn:
    raise AdapterError("format-unsupported", f"the adapter {name!r} can't be written in {peer}'s format", cause=why)


def _apart(config: object) -> str | None:
    """Why a method with the same name in both formats is not the same."""
    return next((why for kind, why in _APART.items() if isinstance(config, kind)), None)


def _key(name: str) -> str:
    return name.replace(".", "/")


def _pair(part: LowRankPart, magnitude: tuple[int, ...]) -> Slots:
    """Its tensors, DoRA's magnitude in the shape that the other format has it in."""
    if not part.options.dora:
        return part
    return {"A": part["A"], "B": part["B"], "magnitude": part["magnitude"].view(magnitude)}


def _is_diagonal(matrix: Tensor) -> bool:
    return bool(torch.equal(matrix, matrix.diagonal().diag()))


def _lambdas(part: LowRankPart) -> Slots:
    """The vectors of PEFT's VeRA, which has no scale beside them."""
    return {"lambda_d": part["vera_D"].diagonal(), "lambda_b": part["vera_B"].diagonal() * part.options.scale}


def _lora_differs(config: PeftLora, parts: list[LowRankPart], anatomy: Anatomy) -> str | None:
    """Why PEFT's LoRA is none of AdapterHub's; None if it is one."""
    if config.alora_invocation_tokens or config.layer_order:
        return "it has neither LoRA that acts from an invocation on nor replicated layers"
    if config.lora_bias or config.bias != "none":
        return "AdapterHub's LoRA has no biases"
    if len({(part.options.scale, part["A"].shape[0]) for part in parts}) != 1:
        return "it has one rank and one alpha for all layers"
    return _dora_differs(parts, anatomy) if config.use_dora else None


def _dora_differs(parts: Iterable[LowRankPart], anatomy: Anatomy) -> str | None:
    """Why the peers' DoRA would differ on these layers; None if they don't."""
    if any(part.options.scale != 1 for part in parts):
        return "AdapterHub's DoRA leaves its scale (alpha / r) out of the norm, PEFT's does not: they agree at 1"
    biased = [part.layer for part in parts if getattr(anatomy.modules[part.layer], "bias", None) is not None]
    return f"AdapterHub's DoRA scales the bias of {biased[0]}, PEFT's does not" if biased else None


def _places(layers: Iterable[str], anatomy: Anatomy) -> tuple[dict[str, Any], str | None]:
    """How AdapterHub's config says that LoRA, or (IA)3, is on just these layers; or why it can't."""
    where = {layer: (location, number) for location in LOCATIONS for number, layer in anatomy.linears(location)}
    unknown = [layer for layer in layers if layer not in where]
    if unknown:
        return {}, f"it has no LoRA on {', '.join(unknown)}"
    reached = {location: {where[layer][1] for layer in layers if where[layer][0] == location} for location in LOCATIONS}
    numbers = {frozenset(found) for found in reached.values() if found}
    if len(numbers) != 1:
        return {}, "it leaves out the same layers everywhere"
    return {
        "selfattn_lora": any(reached[location] for location in LOCATIONS if location.startswith("selfattn.")),
        "intermediate_lora": bool(reached["intermediate"]),
        "output_lora": bool(reached["output"]),
        "leave_out": tuple(number for number, _ in anatomy.layers() if number not in next(iter(numbers))),
        "attn_matrices": tuple(matrix for matrix in ("q", "k", "v") if reached[f"selfattn.{matrix}"]),
    }, None
