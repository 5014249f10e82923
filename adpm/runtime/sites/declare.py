"""A table of sites that a user declares, as a mapping or a YAML file. ``specs/sites.md`` is normative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adpm import limits
from adpm.errors import NotFoundError
from adpm.formats.reader import Document, Fields, Node, integer, list_of, one_of, text
from adpm.formats.yaml import open_yaml
from adpm.runtime.sites.family import (
    SUBLAYERS,
    Attention,
    Embeddings,
    Family,
    Stack,
    SubLayer,
    SubLayerName,
    Tap,
)

__all__ = ["Sites", "read_sites"]

Sites = Family | Mapping[str, Any] | str | Path
_PROJECTIONS = ("q", "k", "v", "o", "qkv")


def read_sites(sites: Sites, *, model_type: str) -> Family:
    """The table in ``sites``: a mapping, or the path of a YAML file.

    Raises ``DocumentError`` (``sites-invalid``) with all faults and ``NotFoundError`` (``sites-not-found``).
    """
    if isinstance(sites, Family):
        return sites
    if isinstance(sites, Mapping):
        document = Document(dict(sites), source="sites", code="sites-invalid")
    else:
        path = Path(sites)
        try:
            with path.open("rb") as file:
                data = file.read(limits.CONFIG_BYTES + 1)
        except OSError as error:
            raise NotFoundError("sites-not-found", f"can't read {path}", cause=error.strerror) from error
        document = open_yaml(data, source=str(path), code="sites-invalid", limit=limits.CONFIG_BYTES)
    family = document.root.decode(lambda node: _family(node, model_type))
    document.finish(hint="specs/sites.md shows what a table of sites says")
    if family is None:
        raise TypeError("a table without a fault is there")
    return family


def _family(node: Node, model_type: str) -> Family:
    found = node.fields()
    embeddings = found.get("embeddings", text)
    base = found.get("base", text)
    stacks = found.get("stacks", _stacks) if "stacks" in found else (_stack_of(found),)
    found.close()
    return Family(
        model_type=model_type,
        adapterhub_class="",
        embeddings=Embeddings(() if embeddings is None else (embeddings,), invertible=embeddings is not None),
        stacks=stacks or (),
        base=base,
    )


def _stacks(node: Node) -> tuple[Stack, ...]:
    stacks = list_of(_stack)(node)
    return stacks or node.fail("is empty")


def _stack(node: Node) -> Stack:
    found = node.fields()
    stack = _stack_of(found)
    found.close()
    return stack


def _stack_of(found: Fields) -> Stack:
    layers = found.need("layers", text)
    attention = found.get("attention", text)
    linears = found.get("linears", _linears) or {}
    projections = {word: (path,) for word, path in linears.items() if word in _PROJECTIONS}
    return Stack(
        layers=(layers,),
        sublayers=found.get("sublayers", _sublayers, default=()),
        attentions=(Attention((attention or "",), "self", projections),) if attention or projections else (),
        linears={word: (path,) for word, path in linears.items() if word not in _PROJECTIONS},
        config=found.get("config", text, default=""),
    )


def _linears(node: Node) -> dict[str, str]:
    found = node.fields()
    values = {word: found.get(word, text) for word in (*_PROJECTIONS, "intermediate", "output")}
    found.close()
    return {word: path for word, path in values.items() if path is not None}


def _sublayers(node: Node) -> tuple[SubLayer, ...]:
    found = node.fields()
    values = [found.get(name, lambda child, name=name: _sublayer(child, name)) for name in SUBLAYERS]
    found.close()
    return tuple(value for value in values if value is not None)


def _sublayer(node: Node, name: SubLayerName) -> SubLayer:
    found = node.fields()
    hidden = found.need("hidden", text)
    residual = found.need("residual", _tap)
    norm = found.get("norm", text)
    default: Literal["norm", "add"] = "add" if norm is None else "norm"
    ends: Literal["norm", "add", "free"] = found.get("ends", one_of("norm", "add", "free")) or default
    if ends == "norm" and norm is None:
        node.fail("ends in a norm and names none")
    found.close()
    return SubLayer(
        name,
        hidden=Tap((hidden,), "after"),
        residual=(residual,),
        adapters={"mh_adapter": "attention_adapters", "cross_adapter": "cross_attention_adapters"}.get(
            name, "output_adapters"
        ),
        ends=ends,
        norm=() if norm is None else (norm,),
    )


def _tap(node: Node) -> Tap:
    """What goes into a module: its first argument, or the one that a mapping names."""
    if not isinstance(node.value, dict):
        return Tap((text(node),), keywords=("hidden_states", "input", "x"))
    found = node.fields()
    module = found.get("module", text, default="")
    position = found.get("position", integer(0), default=0)
    keyword = found.get("keyword", text)
    found.close()
    return Tap((module,), position=position, keywords=("hidden_states",) if keyword is None else (keyword,))
