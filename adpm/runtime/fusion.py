"""The fusions on a model: made, read and saved as AdapterHub has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save
from torch import Generator, Tensor, nn

from adpm.errors import NotFoundError, UsageError
from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_fusion import (
    FUSION_CONFIG,
    FUSIONS,
    FusionConfig,
    fusion_of,
    fusion_slots,
    fusion_value,
    read_fusion_config,
    write_fusion_config,
)
from adpm.formats.adapterhub_methods import Bottleneck
from adpm.runtime.adapter import Adapter, Source
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.methods.fusion import HOT, FusionPart, start_fusion
from adpm.runtime.part import Blueprint
from adpm.runtime.read import Present, check_model, document, weights_of
from adpm.runtime.sites.family import SUBLAYERS
from adpm.runtime.weights import Buffer

__all__ = ["FUSION_CONFIG", "Fusion", "new_fusion", "read_fusion", "save_fusion"]

_WEIGHTS: Final = ("model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin")
FUSION_FILES: Final = (FUSION_CONFIG, *_WEIGHTS)


class Fusion(nn.Module):
    """The weights of one fusion at all places, and its ``parts`` by AdapterHub's name of the place."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.training = False
        self.config = config
        self.parts: dict[str, FusionPart] = {}


def new_fusion(  # noqa: PLR0917 - what Adapters.add_fusion is given, and what it knows
    names: tuple[str, ...],
    adapters: Mapping[str, Adapter],
    config: str | Mapping[str, object] | FusionConfig,
    options: Mapping[str, object],
    anatomy: Anatomy,
    generator: Generator | None,
) -> Fusion:
    """A fusion of ``names`` with fresh weights. Raises ``fusion-invalid``, ``adapter-config-invalid``."""
    if isinstance(config, str):
        if config not in FUSIONS:
            raise UsageError("fusion-invalid", f"{config!r} is no fusion", hint=f"fusions are {', '.join(FUSIONS)}")
        config = FUSIONS[config]
    value = fusion_value(config) if isinstance(config, FusionConfig) else dict(config)
    settings = fusion_of({**value, **options}, source=f"the settings of the fusion of {', '.join(names)}")
    like = anatomy.weight
    tensors: dict[str, dict[str, Tensor]] = {}
    blueprints = _blueprints(replace(settings, names=names), _places(names, adapters, anatomy), anatomy)
    for blueprint in blueprints:
        made = tensors[blueprint.key] = {
            slot.name: torch.empty(slot.shape, dtype=like.dtype, device=like.device) for slot in blueprint.slots
        }
        with torch.no_grad():
            blueprint.start(made, generator)
    return _build(replace(settings, names=names), blueprints, tensors, anatomy)


def read_fusion(
    files: Mapping[str, Buffer],
    names: tuple[str, ...] | None,
    adapters: Mapping[str, Adapter],
    anatomy: Anatomy,
    *,
    source: str,
) -> tuple[tuple[str, ...], Fusion]:
    """The fusion in ``files``, and the adapters that it fuses: ``names``, or those that the file names.

    Errors are those of ``read_adapter``, and ``adapter-not-found`` for an adapter that is not on the model.
    """
    if FUSION_CONFIG not in files:
        raise NotFoundError("adapter-not-found", f"{source} has no {FUSION_CONFIG}")
    config = read_fusion_config(document(files[FUSION_CONFIG]), source=f"{source}/{FUSION_CONFIG}")
    check_model(config.model_type, config.hidden_size, anatomy, source)
    fused = config.names if names is None else names
    if len(fused) != len(config.names):
        raise UsageError(
            "fusion-invalid",
            f"{source} fuses {len(config.names)} adapters, not {len(fused)}",
            hint=f"in the file they are {', '.join(config.names)}",
        )
    blueprints = _blueprints(config, _places(fused, adapters, anatomy), anatomy)
    settings = Source(AdapterHubConfig(",".join(config.names), ()))
    present = Present(weights_of(files, (_WEIGHTS,), source), settings, anatomy)
    tensors = present.match(tuple(blueprints), source)
    return fused, _build(replace(config, names=fused), blueprints, tensors, anatomy)


def save_fusion(fusion: Fusion, anatomy: Anatomy, directory: Path) -> None:
    """Write what AdapterHub's ``load_adapter_fusion`` reads; a temperature that training has lowered goes into Q."""
    heat = next((part.temperature for part in fusion.parts.values()), HOT)
    config = replace(
        fusion.config,
        model_type=anatomy.model_type,
        model_name=getattr(anatomy.config, "_name_or_path", None) or None,
        hidden_size=anatomy.hidden_size,
    )
    cooled = config.temperature and heat < HOT
    if cooled and not config.query:
        raise UsageError(
            "fusion-invalid",
            "a fusion without a query can't keep the temperature that training gave it",
            hint="train it on until the temperature is 1, or begin with temperature=False",
        )
    tensors: dict[str, Tensor] = {}
    widths = _widths(anatomy)
    for place, part in fusion.parts.items():
        for slot in fusion_slots(config, widths[place.replace("/", ".")]):
            value = part[slot.name].detach().to("cpu").clone().contiguous()
            if cooled and slot.name.startswith("query"):
                value = value / heat
            path = place.replace("/", ".")
            tensors[f"{anatomy.hub_prefix}{path}.adapter_fusion_layer.{','.join(config.names)}.{slot.file}"] = value
    config = replace(config, temperature=config.temperature and not cooled)
    files = {
        FUSION_CONFIG: write_fusion_config(config, model_class=anatomy.family().adapterhub_class),
        _WEIGHTS[0]: save(tensors),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)


def _places(names: tuple[str, ...], adapters: Mapping[str, Adapter], anatomy: Anatomy) -> tuple[str, ...]:
    """Where all of ``names`` have the same kind of bottleneck; ``fusion-invalid`` where there is no such place."""
    for name in names:
        if name not in adapters:
            known = ", ".join(sorted(adapters)) or "none"
            raise NotFoundError("adapter-not-found", f"the model has no adapter {name!r}", hint=f"it has {known}")
    kinds = [_kinds(adapters[name]) for name in names]
    common = set.intersection(*kinds) if kinds else set()
    places = tuple(site.adapters for kind in sorted(common) for site in anatomy.sites(kind))
    if len(names) < 2 or not places:
        raise UsageError(
            "fusion-invalid",
            f"{', '.join(names) or 'nothing'} can't be fused",
            cause="a fusion is of two or more bottleneck adapters that act after the same sub-layers",
            hint="average() takes any adapters",
        )
    return places


def _kinds(adapter: Adapter) -> set[str]:
    """The sub-layers after which an adapter acts, in whichever layers."""
    config = adapter.source.config
    methods = config.methods if isinstance(config, AdapterHubConfig) else ()
    bottlenecks = [method for method in methods if isinstance(method, Bottleneck)]
    return {name for name in SUBLAYERS for method in bottlenecks if getattr(method, name)}


def _widths(anatomy: Anatomy) -> dict[str, int]:
    """The hidden size at each place."""
    return {site.adapters: site.width for kind in SUBLAYERS for site in anatomy.sites(kind)}


def _blueprints(config: FusionConfig, places: tuple[str, ...], anatomy: Anatomy) -> list[Blueprint]:
    widths = _widths(anatomy)
    return [
        Blueprint(
            key=place.replace(".", "/"),
            file=(f"{place}.adapter_fusion_layer.", "."),
            slots=fusion_slots(config, widths[place]),
            build=partial(FusionPart, config=config, dropout=_dropout(config, anatomy)),
            start=partial(start_fusion, config),
        )
        for place in places
    ]


def _dropout(config: FusionConfig, anatomy: Anatomy) -> float:
    return config.dropout_prob or getattr(anatomy.config, "attention_probs_dropout_prob", 0.0) or 0.0


def _build(
    config: FusionConfig,
    blueprints: list[Blueprint],
    tensors: Mapping[str, Mapping[str, Tensor]],
    anatomy: Anatomy,
) -> Fusion:
    fusion = Fusion(config)
    for blueprint in blueprints:
        part = FusionPart(fusion, blueprint.names, config, _dropout(config, anatomy))
        part.bind(tensors[blueprint.key])
        fusion.parts[blueprint.key] = part
    return fusion
