"""One live model as the runtime sees it: its modules by name, walked once, and the table of its family."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import nn

from adpm.errors import AdapterError
from adpm.runtime.part import Blueprint
from adpm.runtime.renamed import other_names
from adpm.runtime.replication import Replicas
from adpm.runtime.sites import FAMILIES
from adpm.runtime.sites.declare import Sites, read_sites
from adpm.runtime.sites.family import SUBLAYERS, Attention, Family, Names, Stack, SubLayer, Tap

__all__ = [
    "HANDLE",
    "Anatomy",
    "AttentionSite",
    "Site",
    "View",
    "features",
    "is_tied",
    "output_embeddings",
    "token_embedding",
]

HANDLE = "adpm"  # the attribute under which the handle is registered


@dataclass(frozen=True, slots=True)
class View:
    """A tensor that can be seen: an argument of the module of this absolute name, or its (first) output."""

    module: str
    when: Literal["before", "after"]
    position: int = 0
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """A sub-layer of one layer: a row of its table (``SubLayer`` explains the fields) with absolute module names.

    ``name`` is AdapterHub's option; ``adapters`` is where it keeps the weights, without the base's prefix; ``width``:
    the hidden size there.
    """

    name: str
    layer: int
    hidden: View
    residual: tuple[View, ...]
    norm: str | None
    ends: Literal["norm", "add", "free"]
    by_turns: bool
    adapters: str
    width: int


@dataclass(frozen=True, slots=True)
class AttentionSite:
    """An attention of one layer: ``module`` and ``linears`` ("q", "k", "v", "o" or "qkv", "o") by absolute names,
    ``file`` the module's name in AdapterHub's files, ``prefix`` its word for it ("self", "encoder", "cross"),
    ``prefixes`` what its prefixes are called there. ``config``: the part of the model's that has its sizes."""

    layer: int
    module: str
    file: str
    prefix: str
    prefixes: str
    linears: tuple[tuple[str, str], ...]
    width: int
    config: Any


class _Layer(NamedTuple):
    number: int
    path: str  # absolute
    file: str  # in AdapterHub's files, without the base's prefix
    last: str  # the last layer of the same stack
    stack: Stack

    def name(self, path: str) -> str:
        return f"{self.path}.{path}".rstrip(".")


class Anatomy:
    """``modules``: all by their names; ``prefix``: what stands before the base's modules in a model with a head.

    ``sites``: the table of the model's family, where adpm has none or a wrong one.
    """

    def __init__(self, model: nn.Module, sites: Sites | None = None) -> None:
        self.model = model
        self.modules: dict[str, nn.Module] = {
            name: module for name, module in model.named_modules() if name.split(".")[0] != HANDLE
        }
        self.config = getattr(model, "config", None)
        self.model_type = str(getattr(self.config, "model_type", ""))
        known = FAMILIES.get(self.model_type)
        self.table = known if sites is None else read_sites(sites, model_type=self.model_type)
        base: nn.Module = getattr(model, "base_model", model)
        self.base_prefix: str = getattr(model, "base_model_prefix", "")
        named = None if self.table is None else self.table.base
        if base is model and named and named in self.modules:
            self.base_prefix = named
            self.prefix = f"{named}."
        else:
            self.prefix = "" if base is model or not self.base_prefix else f"{self.base_prefix}."
        self.blueprints: dict[object, tuple[Blueprint, ...]] = {}  # by config: one walk for all adapters of one kind
        self.replicas: Replicas | None = None
        self.own_names: Mapping[str, str] = {}  # of the model's modules by those in ``modules``, where they differ
        self._replicated: dict[tuple[int, ...], Anatomy] = {}
        if sites is not None:
            self.check()

    def replicated(self, order: tuple[int, ...]) -> Anatomy:
        """The model with its layers in ``order``, some of them several times; the model itself for no order.

        Raises ``AdapterError`` (``adapter-misfit``) where it has no such layers.
        """
        if not order:
            return self
        if order not in self._replicated:
            replicas = Replicas(self.model, self.prefix, order)
            other = copy.copy(self)
            for name in ("_layers", "_linears", "renamed"):
                other.__dict__.pop(name, None)
            other.modules = {}
            for name, module in self.modules.items():
                if name == replicas.path:
                    other.modules.update(replicas.layers.named_modules(prefix=name))
                elif not name.startswith(f"{replicas.path}."):
                    other.modules[name] = module
            other.replicas, other.blueprints, other._replicated = replicas, {}, {order: other}  # noqa: SLF001 - its own class
            self._replicated[order] = other
        return self._replicated[order]

    @cached_property
    def renamed(self) -> Anatomy | None:
        """The model with the names that its modules have in another release of transformers; None where it has one."""
        pairs = () if self.table is None else self.table.renamed
        own = other_names(self.modules, pairs, self.prefix) if pairs else {}
        if not own:
            return None
        other = copy.copy(self)
        for name in ("_layers", "_linears"):
            other.__dict__.pop(name, None)
        other.modules = {name: self.modules[mine] for name, mine in own.items()}
        orders = {order: other for order, found in self._replicated.items() if found is self}
        other.own_names, other.blueprints, other._replicated = own, {}, orders  # noqa: SLF001 - its own class
        other.__dict__["renamed"] = other
        return other

    @property
    def weight(self) -> torch.Tensor:
        """A weight of the base: its dtype and device are what adapters take."""
        found = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        return torch.empty(0) if found is None else found

    @property
    def hub_prefix(self) -> str:
        """What AdapterHub's files have before the base's modules where they were written from a model with a head."""
        named = None if self.table is None else self.table.base
        return f"{named or self.base_prefix}."

    @property
    def hidden_size(self) -> int:
        parts = ["", *(stack.config for stack in (self.table.stacks if self.table else ()))]
        sizes = [size for part in parts if (size := self._size(part, "hidden_size"))]
        return sizes[0] if sizes else self._unknown("its config names no hidden_size")

    @property
    def embedding_size(self) -> int:
        """The width of what the embeddings give, which is not every model's hidden size."""
        return self._size(self.family().stacks[0].config, "embedding_size") or self.hidden_size

    def family(self) -> Family:
        """The model's table; ``AdapterError`` (``family-unsupported``) where there is none."""
        if self.table is None:
            self._unknown(f"its model type is {self.model_type!r}; known are {', '.join(sorted(FAMILIES))}")
        return self.table

    def check(self) -> None:
        """Raise ``AdapterError`` (``family-unsupported``) where the table names a module that the model lacks."""
        for name in SUBLAYERS:
            list(self.sites(name))
        list(self.attentions())
        if self.family().embeddings.module:
            self.embeddings()
        list(self.linears("output"))

    def layers(self) -> Iterator[tuple[int, str]]:
        """Numbers and absolute names of the layers, those of an encoder before those of a decoder."""
        for layer in self._layers:
            yield layer.number, layer.path

    def stacks(self) -> list[list[str]]:
        """Absolute names of the layers, those of an encoder and of its decoder for themselves."""
        found: dict[int, list[str]] = {}
        for layer in self._layers:
            found.setdefault(id(layer.stack), []).append(layer.path)
        return list(found.values())

    def widths(self) -> dict[int, int]:
        """The hidden size of each layer, by number."""
        return {layer.number: self._width(layer.stack) for layer in self._layers}

    def sites(self, name: str) -> Iterator[Site]:
        """The sub-layers called ``name`` ("mh_adapter", "cross_adapter" or "output_adapter") of all layers."""
        for layer in self._layers:
            for sublayer in layer.stack.sublayers:
                there = not sublayer.optional or self._find(layer, sublayer.hidden.module) is not None
                if sublayer.name == name and there:
                    yield self._site(layer, sublayer)

    def linears(self, location: str) -> Iterator[tuple[int, str]]:
        """Layer numbers and absolute names of the linear layers at ``location`` ("selfattn.q", "output", ...)."""
        yield from self._linears.get(location, ())

    def attentions(self) -> Iterator[AttentionSite]:
        """Every attention of every layer; a decoder's own comes before the one across to the encoder."""
        for layer in self._layers:
            for attention in self._present(layer):
                path = self._path(layer, attention.module)
                linears = {word: layer.name(self._path(layer, names)) for word, names in attention.linears.items()}
                yield AttentionSite(
                    layer.number,
                    layer.name(path),
                    f"{layer.file}.{layer.stack.files.get(path, path)}",
                    attention.prefix,
                    attention.files or f"{attention.prefix}_prefix",
                    tuple(linears.items()),
                    self._width(layer.stack),
                    self._config(layer.stack.config),
                )

    def embeddings(self) -> tuple[str, str | None]:
        """The module whose output the first layer gets; and the module in whose pass its first call is meant."""
        found = self.family().embeddings
        name = next((self.prefix + path for path in found.module if self.prefix + path in self.modules), None)
        if name is None:
            self._unknown(f"it has no module {self.prefix}{'|'.join(found.module) or 'of embeddings'}")
        return name, None if found.first_in is None else self.prefix + found.first_in

    def file_name(self, name: str) -> str:
        """What AdapterHub's files call a linear layer, without the base's prefix."""
        layer = next((layer for layer in self._layers if name.startswith(f"{layer.path}.")), None)
        if layer is None:
            return name.removeprefix(self.prefix)
        inner = name.removeprefix(f"{layer.path}.")
        return f"{layer.file}.{layer.stack.files.get(inner, inner)}"

    def module(self, name: str) -> nn.Module:
        module = self.modules.get(name)
        if module is None:
            self._unknown(f"it has no module {name}")
        return module

    @cached_property
    def _layers(self) -> tuple[_Layer, ...]:
        out: list[_Layer] = []
        for stack in self.family().stacks:
            lists = next((found for path in stack.layers if (found := self._lists(path))), [])
            paths = [f"{path}.{number}" for path in lists for number in range(len(list(self.modules[path].children())))]
            for place, path in enumerate(paths):
                inner = path.removeprefix(self.prefix)
                file = inner if "*" in stack.layers[0] else f"{stack.layers[0]}.{place}"
                out.append(_Layer(len(out), path, file, paths[-1], stack))
        if not out:
            self._unknown(f"it has no layers at {self.prefix}{self.family().stacks[0].layers[0]}")
        return tuple(out)

    def _lists(self, path: str) -> list[str]:
        """The module lists that ``path`` names."""
        before, star, after = (self.prefix + path).partition(".*.")
        if not star:
            return [before] if before in self.modules else []
        groups = len(list(self.modules[before].children())) if before in self.modules else 0
        return [f"{before}.{number}.{after}" for number in range(groups)]

    @cached_property
    def _linears(self) -> dict[str, list[tuple[int, str]]]:
        """By location: layer numbers and absolute names."""
        out: dict[str, list[tuple[int, str]]] = {}
        for layer in self._layers:
            linears = [
                (f"selfattn.{word}", names)
                for attention in self._present(layer)
                for word, names in attention.linears.items()
            ]
            for location, names in (*linears, *layer.stack.linears.items()):
                out.setdefault(location, []).append((layer.number, layer.name(self._path(layer, names))))
        return out

    def _present(self, layer: _Layer) -> Iterator[Attention]:
        for attention in layer.stack.attentions:
            if not (attention.optional and self._find(layer, attention.module) is None):
                yield attention

    def _find(self, layer: _Layer, names: Names) -> str | None:
        """The first of ``names`` that the layer has."""
        return next((path for path in names if layer.name(path) in self.modules), None)

    def _path(self, layer: _Layer, names: Names) -> str:
        path = self._find(layer, names)
        return self._unknown(f"it has no module {layer.name(names[0])}") if path is None else path

    def _site(self, layer: _Layer, sublayer: SubLayer) -> Site:
        norm = None
        if sublayer.norm:
            path = self._path(layer, sublayer.norm)
            norm = f"{layer.last}.{path}" if sublayer.norm_of_last else layer.name(path)
        return Site(
            sublayer.name,
            layer.number,
            self._view(layer, sublayer.hidden),
            tuple(self._view(layer, tap) for tap in sublayer.residual),
            norm,
            sublayer.ends,
            sublayer.by_turns,
            f"{layer.file}.{sublayer.adapters}",
            self._width(layer.stack),
        )

    def _view(self, layer: _Layer, tap: Tap) -> View:
        return View(layer.name(self._path(layer, tap.module)), tap.when, tap.position, tap.keywords)

    def _width(self, stack: Stack) -> int:
        return self._size(stack.config, "hidden_size") or self.hidden_size

    def _size(self, part: str, name: str) -> int | None:
        size = getattr(self._config(part), name, None)
        return size if isinstance(size, int) else None

    def _config(self, part: str) -> Any:
        return getattr(self.config, part, None) if part else self.config

    def _unknown(self, why: str) -> NoReturn:
        raise AdapterError(
            "family-unsupported",
            f"adpm does not know the anatomy of {type(self.model).__name__}",
            cause=why,
            hint=_HINT,
        )


_HINT = """bottleneck adapters and AdapterHub's LoRA need a table of sites; PEFT's LoRA needs none. Declare it:
sites = {"layers": "model.layers", "embeddings": "model.embed_tokens",
         "sublayers": {"mh_adapter": {"hidden": "self_attn", "residual": "input_layernorm"},
                       "output_adapter": {"hidden": "mlp", "residual": "post_attention_layernorm"}},
         "linears": {"q": "self_attn.q_proj", "intermediate": "mlp.up_proj", "output": "mlp.down_proj"}}
adpm.attach(model, sites=sites), or the same in a YAML file; specs/sites.md explains it"""


def features(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a linear layer, quantised ones and Conv1D included; None for another module."""
    if type(module).__name__ == "Conv1D" and isinstance(module.weight, torch.Tensor):
        return module.weight.shape[0], module.weight.shape[1]
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def token_embedding(anatomy: Anatomy) -> nn.Module | None:
    """The module that turns tokens into vectors, or pixels where there are no tokens; None where the model has none."""
    get_input: Callable[[], nn.Module | None] = getattr(anatomy.model, "get_input_embeddings", lambda: None)
    try:
        return get_input()
    except NotImplementedError:  # of a model that is two, as CLIP
        return None


def is_tied(anatomy: Anatomy) -> bool:
    """Whether a model of this config makes its scores of tokens with its embedding of tokens.

    transformers 5 says so of every T5 and mT5. What a T5's file says is its ``scale_decoder_outputs`` there; mT5's say
    no.
    """
    config: Any = anatomy.config
    if anatomy.model_type in ("t5", "mt5") and type(config)(tie_word_embeddings=False).tie_word_embeddings:
        return bool(getattr(config, "scale_decoder_outputs", False))
    return bool(getattr(config, "tie_word_embeddings", True))


def output_embeddings(anatomy: Anatomy) -> tuple[str, ...]:
    """The names of the module that turns states into vocabulary scores; empty where the model has none."""
    get_output: Callable[[], nn.Module | None] = getattr(anatomy.model, "get_output_embeddings", lambda: None)
    output = get_output()
    return tuple(name for name, module in anatomy.modules.items() if output is not None and module is output)
