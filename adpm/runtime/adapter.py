"""One adapter on a model: its parts, and what it takes to write it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from adpm.formats.adapterhub import AdapterHubConfig
from adpm.formats.adapterhub_heads import HeadConfig
from adpm.formats.peft import PeftLora, PeftMethod
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.from_adapterhub import adapterhub_blueprints, head_blueprint
from adpm.runtime.from_peft import peft_blueprints
from adpm.runtime.methods.layer import LayerPart
from adpm.runtime.part import Blueprint, Part

__all__ = ["Adapter", "Source", "anatomy_of", "blueprints_of", "build", "layers_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter's settings in the format that it was made in. ``renamed``: it has the names that the model's modules
    have in another release of transformers."""

    config: AdapterHubConfig | PeftMethod
    head: HeadConfig | None = None
    renamed: bool = False


def blueprints_of(source: Source, anatomy: Anatomy) -> tuple[Blueprint, ...]:
    """The parts that ``source`` has on this model, the head last. Cost: one walk of the model for each new config."""
    config = source.config
    anatomy = anatomy_of(source, anatomy)
    key: object = config.methods if isinstance(config, AdapterHubConfig) else config
    found = anatomy.blueprints.get(key)
    if found is None:
        make = adapterhub_blueprints(config, anatomy) if isinstance(config, AdapterHubConfig) else None
        found = make if make is not None else peft_blueprints(cast("PeftMethod", config), anatomy)
        if source.renamed:
            found = tuple(_under_own_names(blueprint, anatomy.own_names) for blueprint in found)
        anatomy.blueprints[key] = found
    return found if source.head is None else (*found, head_blueprint(source.head, anatomy))


def _under_own_names(blueprint: Blueprint, own: Mapping[str, str]) -> Blueprint:
    """A blueprint whose module the model calls otherwise; what its file calls it stays."""
    path = name = blueprint.key.replace("/", ".")
    while name and name not in own:
        name = name.rpartition(".")[0]
    key = (own[name] + path.removeprefix(name)).replace(".", "/") if name else blueprint.key
    return replace(blueprint, key=key, build=partial(_on_its_module, blueprint.build, own))


def _on_its_module(
    make: Callable[[Any, Mapping[str, str]], Part], own: Mapping[str, str], adapter: Any, names: Mapping[str, str]
) -> Part:
    part = make(adapter, names)
    if isinstance(part, LayerPart):
        part.layer = own.get(part.layer, part.layer)
    return part


def anatomy_of(source: Source, anatomy: Anatomy) -> Anatomy:
    """The model with the layers that ``source`` is for, under the names that it has for them."""
    layers = layers_of(source, anatomy)
    return layers if layers.renamed is None or not source.renamed else layers.renamed


def layers_of(source: Source, anatomy: Anatomy) -> Anatomy:
    """The model with the layers that ``source`` is for."""
    return anatomy.replicated(source.config.layer_order) if isinstance(source.config, PeftLora) else anatomy


class Adapter(nn.Module):
    """All parameters of one adapter, and its ``parts`` by their keys. Begins in evaluation mode.

    ``source`` is what :mod:`adpm.runtime.save` writes.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.training = False
        self.source = source
        self.parts: dict[str, Part] = {}


def build(source: Source, blueprints: tuple[Blueprint, ...], tensors: Mapping[str, Mapping[str, Tensor]]) -> Adapter:
    """The adapter whose parts' ``tensors`` (part key -> slot name -> tensor) are at hand."""
    adapter = Adapter(source)
    for blueprint in blueprints:
        part = adapter.parts[blueprint.key] = blueprint.build(adapter, blueprint.names)
        part.bind(tensors[blueprint.key])
    return adapter
