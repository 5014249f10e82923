"""One live model as the runtime sees it: its modules by name, walked once, and the table of its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import nn

from adpm.errors import AdapterError
from adpm.runtime.part import Blueprint
from adpm.runtime.sites import FAMILIES, Family
from adpm.runtime.sites.family import SubLayer

__all__ = ["HANDLE", "Anatomy", "Site", "features", "output_embeddings"]

HANDLE = "adpm"  # the attribute under which the handle is registered


@dataclass(frozen=True, slots=True)
class Site:
    """A sub-layer of one layer: absolute module names of what its table names. ``name`` is AdapterHub's option."""

    name: str
    layer: int
    hidden: str
    norm: str
    residual: str
    position: int
    keywords: tuple[str, ...]
    adapters: str  # where AdapterHub keeps the weights, without the base's prefix


class Anatomy:
    """``modules``: all by their names; ``prefix``: what stands before the base's modules in a model with a head."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules: dict[str, nn.Module] = {
            name: module for name, module in model.named_modules() if name.split(".")[0] != HANDLE
        }
        base: nn.Module = getattr(model, "base_model", model)
        self.base_prefix: str = getattr(model, "base_model_prefix", "")
        self.prefix = "" if base is model or not self.base_prefix else f"{self.base_prefix}."
        self.config = getattr(model, "config", None)
        self.model_type = str(getattr(self.config, "model_type", ""))
        self.blueprints: dict[object, tuple[Blueprint, ...]] = {}  # by config: one walk for all adapters of one kind

    @property
    def weight(self) -> torch.Tensor:
        """A weight of the base: its dtype and device are what adapters take."""
        return next((p for p in self.model.parameters() if p.is_floating_point()), torch.empty(0))

    @property
    def hidden_size(self) -> int:
        size = getattr(self.config, "hidden_size", None)
        return size if isinstance(size, int) else self._unknown("its config names no hidden_size")

    def family(self) -> Family:
        """The model's table; ``AdapterError`` (``family-unsupported``) where there is none or it does not fit."""
        family = FAMILIES.get(self.model_type)
        if family is None:
            self._unknown(f"its model type is {self.model_type!r}; known are {', '.join(sorted(FAMILIES))}")
        if getattr(self.config, "add_cross_attention", False):
            self._unknown("it has cross-attention")
        return family

    def layers(self) -> Iterator[tuple[int, str]]:
        """Numbers and absolute names of the layers."""
        path = self.prefix + self.family().layers
        for number in range(len(list(self.module(path).children()))):
            yield number, f"{path}.{number}"

    def sites(self, name: str) -> Iterator[Site]:
        """The sub-layers called ``name`` ("mh_adapter" or "output_adapter"), one a layer."""
        sublayer: SubLayer = self.family().sublayers[name]
        for number, layer in self.layers():
            site = Site(
                name,
                number,
                hidden=f"{layer}.{sublayer.hidden}",
                norm=f"{layer}.{sublayer.norm}",
                residual=f"{layer}.{sublayer.residual.path}".rstrip("."),
                position=sublayer.residual.position,
                keywords=sublayer.residual.keywords,
                adapters=f"{layer}.{sublayer.adapters}".removeprefix(self.prefix),
            )
            for path in (site.hidden, site.norm, site.residual):
                self.module(path)
            yield site

    def linears(self, location: str) -> Iterator[tuple[int, str]]:
        """Layer numbers and absolute names of the linear layers at ``location`` ("selfattn.q", "output", ...)."""
        path = self.family().linears.get(location)
        if path is not None:
            for number, layer in self.layers():
                yield number, f"{layer}.{path}"

    def module(self, name: str) -> nn.Module:
        module = self.modules.get(name)
        if module is None:
            self._unknown(f"it has no module {name}")
        return module

    def _unknown(self, why: str) -> NoReturn:
        raise AdapterError(
            "family-unsupported",
            f"adpm does not know the anatomy of {type(self.model).__name__}",
            cause=why,
            hint="bottleneck adapters and AdapterHub's LoRA need a table of sites; PEFT's LoRA needs none",
        )


def features(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a linear layer, quantised ones and Conv1D included; None for another module."""
    if type(module).__name__ == "Conv1D" and isinstance(module.weight, torch.Tensor):
        return module.weight.shape[0], module.weight.shape[1]
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def output_embeddings(anatomy: Anatomy) -> tuple[str, ...]:
    """The names of the module that turns states into vocabulary scores; empty where the model has none."""
    get_output: Callable[[], nn.Module | None] = getattr(anatomy.model, "get_output_embeddings", lambda: None)
    output = get_output()
    return tuple(name for name, module in anatomy.modules.items() if output is not None and module is output)
