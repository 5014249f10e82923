"""What a table of sites says of a model family.

A path is a dotted module name; inside a stack it starts at the layer, and "" is the layer itself. Where several are
given, the first that the model has is meant: releases of transformers and settings of a model differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "LOCATIONS",
    "SUBLAYERS",
    "Attention",
    "Embeddings",
    "Family",
    "Names",
    "Stack",
    "SubLayer",
    "SubLayerName",
    "Tap",
    "add",
    "norm",
]

Names = tuple[str, ...]
SubLayerName = Literal["mh_adapter", "cross_adapter", "output_adapter"]
SUBLAYERS: Final[tuple[SubLayerName, ...]] = ("mh_adapter", "cross_adapter", "output_adapter")  # AdapterHub's options
# AdapterHub's words for the linear layers that LoRA and (IA)3 change.
LOCATIONS: Final = ("selfattn.q", "selfattn.k", "selfattn.v", "selfattn.qkv", "intermediate", "output")


@dataclass(frozen=True, slots=True)
class Tap:
    """A tensor on its way: an argument of a module, or its (first) output.

    ``position`` and ``keywords`` say which argument; what is called by keyword in one release may be positional in
    another.
    """

    module: Names
    when: Literal["before", "after"] = "before"
    position: int = 0
    keywords: tuple[str, ...] = ("hidden_states",)


@dataclass(frozen=True, slots=True)
class SubLayer:
    """A sub-layer with output h (after dropout) and residual r, after which a bottleneck may act.

    ``hidden`` is where h is seen and, where it is an output, replaced. ``residual``: r is the sum of these.
    ``ends`` is what the model does next: "norm", norm(h + r); "add", h + r; "free", something that an adapter does not
    look at. ``norm`` is what ``original_ln_before`` looks through, and for "norm" the norm that follows; without one
    such an adapter sees the plain sum. ``norm_of_last``: it is the last layer's, whatever the layer. ``by_turns``: the
    module of ``hidden`` serves more than one sub-layer, each after its residual. ``optional``: not every model has it.
    ``adapters`` is where AdapterHub keeps the weights.
    """

    name: SubLayerName
    hidden: Tap
    residual: tuple[Tap, ...]
    adapters: str
    ends: Literal["norm", "add", "free"]
    norm: Names = ()
    norm_of_last: bool = False
    by_turns: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention of a layer. ``prefix`` is AdapterHub's word for it in prefix tuning; ``linears`` are its ``q``,
    ``k``, ``v`` and ``o`` projections, or ``qkv`` for one that makes all three."""

    module: Names
    prefix: Literal["self", "encoder", "cross"]
    linears: Mapping[str, Names]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers built alike. A ``*`` in ``layers`` stands for all children; ``config``: the sub-config with its sizes.

    ``linears`` are the feed-forward layers: ``intermediate`` and ``output``, in AdapterHub's sense of the words.
    ``files``: what AdapterHub's files call modules that have another name in the model. The layers' list goes by the
    first of ``layers`` there.
    """

    layers: Names
    sublayers: tuple[SubLayer, ...]
    attentions: tuple[Attention, ...]
    linears: Mapping[str, Names]
    config: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The module whose output (or first output) is what the first layer gets.

    ``first_in``: the module also serves later; only its first call in a pass through the module ``first_in`` counts.
    ``invertible``: whether invertible adapters act here. ``owner``: the module that has them in AdapterHub's files,
    with a dot behind it. ``unscaled``: they act before the factor ``embed_scale``, which the module of some releases
    multiplies with itself. ``prompts``: whether more vectors can come after it; not where the model counts positions
    for its layers before.
    """

    module: Names
    first_in: str | None = None
    invertible: bool = True
    owner: str = ""
    unscaled: bool = False
    prompts: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """One model family. Layers are counted through all ``stacks`` that the model has, in their order.

    ``base`` is where the base is in a model with a head, and the prefix in AdapterHub's files; None: as transformers
    says. ``pooled``: whether the base model's outputs have a pooler's in second place. ``renamed``: pairs of what
    transformers 4 and 5 call a module of the base and those below it, ``#`` for a number; the first that fits counts.
    """

    model_type: str
    adapterhub_class: str
    embeddings: Embeddings
    stacks: tuple[Stack, ...]
    pooled: bool = False
    base: str | None = None
    renamed: tuple[tuple[str, str], ...] = ()


def norm(name: SubLayerName, hidden: str, residual: Tap, layer_norm: str, adapters: str) -> SubLayer:
    """A sub-layer that ends in a norm of the sum."""
    return SubLayer(name, Tap((hidden,), "after"), (residual,), adapters, "norm", norm=(layer_norm,))


def add(name: SubLayerName, hidden: str | Names, layer_norm: str, adapters: str, *, optional: bool = False) -> SubLayer:
    """A sub-layer that ends in the plain sum; its residual is what goes into ``layer_norm`` before it."""
    names = (hidden,) if isinstance(hidden, str) else hidden
    return SubLayer(name, Tap(names, "after"), (Tap((layer_norm,)),), adapters, "add", optional=optional)
