"""LoRA from one peer's format to the other's, where both mean the same by it.

Not everything does: AdapterHub's DoRA scales the layer's bias too and leaves the scale out of its norm; gates, VeRA and
(IA)3 in AdapterHub's form have no LoRA in PEFT; PEFT's biases and saved modules have no place in AdapterHub's. Those
are refused (``format-unsupported``). Alone, a converted adapter gives the same output; in a stack each format keeps
its own meaning (``methods/low_rank.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, cast

from adpm.errors import AdapterError
from adpm.formats.adapterhub import AdapterHubConfig, LowRank
from adpm.formats.peft import PeftLora
from adpm.runtime.adapter import Adapter, Source
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.from_peft import targeted_by
from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.low_rank import LowRankPart
from adpm.runtime.part import Part
from adpm.runtime.sites.family import LOCATIONS

__all__ = ["to_adapterhub", "to_peft"]

Parts = Mapping[str, Part]


def _refuse(name: str, peer: str, why: str) -> NoReturn:
    raise AdapterError("format-unsupported", f"the adapter {name!r} can't be written in {peer}'s format", cause=why)


def to_peft(adapter: Adapter, name: str, anatomy: Anatomy) -> tuple[Source, Parts]:
    """Settings and parts of the same LoRA in PEFT's format."""
    config = cast("AdapterHubConfig", adapter.source.config)
    method = config.methods[0]
    if len(config.methods) != 1 or not isinstance(method, LowRank) or adapter.source.head is not None:
        _refuse(name, "PEFT", "PEFT has LoRA, without AdapterHub's heads and other methods")
    if method.composition_mode != "add" or method.use_gating or method.use_dora or method.is_vera:
        _refuse(name, "PEFT", "gates, DoRA, VeRA and (IA)3 differ between the two")
    if any(isinstance(part, FusedPart) for part in adapter.parts.values()):
        _refuse(name, "PEFT", "one of its layers makes queries, keys and values at once, each with matrices of its own")
    parts = {part.layer.replace(".", "/"): part for part in adapter.parts.values() if isinstance(part, LowRankPart)}
    layers = [part.layer for part in adapter.parts.values() if isinstance(part, LowRankPart)]
    short = tuple(sorted({layer.rpartition(".")[2] for layer in layers}))
    exact = targeted_by(short, anatomy) == set(layers)
    lora = PeftLora(
        target_modules=short if exact else tuple(layer.removeprefix(anatomy.prefix) for layer in layers),
        r=method.r,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        base_model_name_or_path=config.model_name,
    )
    return Source(lora), parts


def to_adapterhub(adapter: Adapter, name: str, anatomy: Anatomy) -> tuple[Source, Parts]:
    """Settings and parts of the same LoRA in AdapterHub's format."""
    config = cast("PeftLora", adapter.source.config)
    if config.use_dora or config.lora_bias or config.bias != "none" or config.modules_to_save:
        _refuse(name, "AdapterHub", "DoRA, biases and saved modules differ between the two")
    parts = {part.layer: part for part in adapter.parts.values() if isinstance(part, LowRankPart)}
    where = {layer: (location, number) for location in LOCATIONS for number, layer in anatomy.linears(location)}
    unknown = [layer for layer in parts if layer not in where]
    if unknown:
        _refuse(name, "AdapterHub", f"it has no LoRA on {', '.join(unknown)}")
    if len({(part.options.scale, part["A"].shape[0]) for part in parts.values()}) != 1:
        _refuse(name, "AdapterHub", "it has one rank and one alpha for all layers")
    reached = {location: {where[layer][1] for layer in parts if where[layer][0] == location} for location in LOCATIONS}
    numbers = {frozenset(found) for found in reached.values() if found}
    if len(numbers) != 1:
        _refuse(name, "AdapterHub", "it leaves out the same layers everywhere")
    first = next(iter(parts.values()))
    rank = first["A"].shape[0]
    method = LowRank(
        selfattn_lora=any(reached[location] for location in LOCATIONS if location.startswith("selfattn.")),
        intermediate_lora=bool(reached["intermediate"]),
        output_lora=bool(reached["output"]),
        leave_out=tuple(number for number, _ in anatomy.layers() if number not in next(iter(numbers))),
        r=rank,
        alpha=first.options.scale * rank,
        dropout=config.lora_dropout,
        attn_matrices=tuple(matrix for matrix in ("q", "k", "v") if reached[f"selfattn.{matrix}"]),
    )
    hub = AdapterHubConfig(name, (method,), anatomy.model_type, config.base_model_name_or_path, anatomy.hidden_size)
    return Source(hub), {anatomy.file_name(layer).replace(".", "/"): part for layer, part in parts.items()}
