"""A composition of adapters to a plan: which hook points it needs, and the operation at each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from adpm.core.composition import Block, Composition, Rows, leaves
from adpm.errors import CompositionError, NotFoundError
from adpm.runtime.adapter import Adapter, layers_of
from adpm.runtime.anatomy import Anatomy, Site, output_embeddings
from adpm.runtime.attention import attention_acts, fitting_acts
from adpm.runtime.division import Division
from adpm.runtime.fusion import Fusion
from adpm.runtime.hooks import Act, Plan, Point, plan_of
from adpm.runtime.layers import Parts, layer_acts
from adpm.runtime.methods.attention_prefix import PrefixTuningPart
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.hooked import HookedPart, WatchingPart
from adpm.runtime.methods.inverse import InversePart
from adpm.runtime.methods.layer import LayerPart
from adpm.runtime.outputs import head_acts
from adpm.runtime.parallel import Widening, branches_of, has_parallel
from adpm.runtime.prefixes import Placed
from adpm.runtime.sublayer import embeddings_acts, sublayer_acts
from adpm.runtime.tree import Leaf, leaves_of, place

__all__ = ["make_plan"]


class _Parts:
    """What the adapters of a composition have, by place and then by adapter."""

    def __init__(self, names: Sequence[str], adapters: Mapping[str, Adapter]) -> None:
        self.sites: dict[Site, dict[str, BottleneckPart]] = defaultdict(dict)
        self.layers: dict[str, dict[str, Parts]] = defaultdict(dict)
        self.prefixes: dict[str, dict[str, Placed]] = defaultdict(dict)
        self.heads: dict[str, HeadPart] = {}
        self.inverses: dict[str, InversePart] = {}
        self.hooked: dict[str, tuple[HookedPart, ...]] = {}
        self.watching: list[WatchingPart] = []
        for name in names:
            for part in adapters[name].parts.values():
                if isinstance(part, BottleneckPart):
                    self.sites[part.site][name] = part
                elif isinstance(part, LayerPart):
                    self.layers[part.layer][name] = (*self.layers[part.layer].get(name, ()), part)
                elif isinstance(part, PrefixTuningPart):
                    for number, target in enumerate(part.targets):
                        here = self.prefixes[target.module]
                        here[name] = (*here.get(name, ()), (part, number))
                elif isinstance(part, HeadPart):
                    self.heads[name] = part
                elif isinstance(part, InversePart):
                    self.inverses[name] = part
                elif isinstance(part, HookedPart):
                    self.hooked[name] = (*self.hooked.get(name, ()), part)
                elif isinstance(part, WatchingPart):
                    self.watching.append(part)


def make_plan(
    composition: Composition | Rows,
    adapters: Mapping[str, Adapter],
    fusions: Mapping[tuple[str, ...], Fusion],
    anatomy: Anatomy,
) -> Plan:
    """The plan of ``composition``. Raises ``CompositionError`` (``composition-unsupported``, ``fusion-missing``) and
    ``NotFoundError`` (``adapter-not-found``)."""
    names = list(dict.fromkeys(leaves(composition)))
    for name in names:
        if name not in adapters:
            known = ", ".join(sorted(adapters)) or "none"
            raise NotFoundError("adapter-not-found", f"the model has no adapter {name!r}", hint=f"it has {known}")
    anatomy = _anatomy_of({name: adapters[name] for name in names}, anatomy)
    count = branches_of(composition)
    widening = None if count == 1 else Widening(count, anatomy)
    parts = _Parts(names, adapters)
    acts = [*_inverse_acts(_inverse(composition, parts.inverses), anatomy)]
    numbers = _LayerNumbers(anatomy)
    for layer, found in parts.layers.items():
        tree = place(composition, found.get, numbers.of(layer))
        if tree is not None:
            acts += layer_acts(layer, tree)
            if widening is not None and has_parallel(tree):
                widening.see(layer)
    for site, bottlenecks in parts.sites.items():
        here = place(composition, bottlenecks.get, site.layer)
        if here is not None:
            key = site.adapters.replace(".", "/")
            fusing = {fused: own for fused, fusion in fusions.items() if (own := fusion.parts.get(key))}
            acts += sublayer_acts(site, here, fusing, anatomy, widening if has_parallel(here) else None)
    placed = {name: place(composition, own.get, numbers.of(name)) for name, own in parts.prefixes.items()}
    prefixes = {name: chain for name, chain in placed.items() if chain is not None}
    if prefixes:
        acts += fitting_acts(prefixes, anatomy)
    for name, chain in prefixes.items():
        acts += attention_acts(name, chain, anatomy)
        if widening is not None and has_parallel(chain):
            widening.see(name)
    acts += _hooked_acts(composition, parts.hooked, numbers, anatomy)
    acts += [act for watching in parts.watching for act in watching.acts(anatomy)]
    if widening is not None:
        acts += widening.acts()
    speaking = place(composition, parts.heads.get, None)
    if speaking is not None:
        undo = partial(_undo, composition, parts.inverses)
        acts += head_acts(speaking, undo, anatomy)
    return replace(plan_of(acts), replicas=anatomy.replicas, modules=anatomy.modules if anatomy.replicas else None)


def _anatomy_of(adapters: Mapping[str, Adapter], anatomy: Anatomy) -> Anatomy:
    """The model with the layers that all of ``adapters`` are for; ``composition-unsupported`` where they differ."""
    found = {name: layers_of(adapter.source, anatomy) for name, adapter in adapters.items()}
    if len({id(own) for own in found.values()}) > 1:
        raise CompositionError(
            "composition-unsupported",
            f"{', '.join(found)} can't act together",
            cause="they are for different layers: one of them replicates layers of the model, and another does not so",
            hint="activate them one at a time",
        )
    return next(iter(found.values()), anatomy)


def _hooked_acts(
    composition: Composition | Rows,
    hooked: Mapping[str, tuple[HookedPart, ...]],
    numbers: _LayerNumbers,
    anatomy: Anatomy,
) -> Iterator[Act]:
    """What acts on whole passes, which only a stack can put together; ``composition-unsupported`` for the others."""
    tree = place(composition, hooked.get, None)
    if tree is None:
        return
    chain = [item for item in tree.items if isinstance(item, Leaf)]
    if len(chain) < len(tree.items):
        names = ", ".join(leaf.name for leaf in leaves_of(tree))
        raise CompositionError(
            "composition-unsupported",
            f"{composition} can't be run",
            cause=f"{names}: prompts, ReFT and PEFT's prefixes change a whole pass, not parts of a batch",
            hint="stack them, or activate them one at a time",
        )
    if sum(part.ALONE for leaf in chain for part in leaf.part) > 1:
        raise CompositionError(
            "composition-unsupported", "only one adapter of a composition can put virtual tokens before a model's input"
        )
    first = next(leaves(composition))
    for leaf in chain:
        for part in leaf.part:
            number = None if part.layer is None else numbers.of(f"{part.layer}.")
            acts = leaf.name == first or not part.FIRST_ALONE
            if acts and place(composition, {leaf.name: part}.get, number) is not None:
                yield from part.acts(anatomy)


class _LayerNumbers:
    """In which layer a module is: by the family's table, or without one by the first number in its name."""

    def __init__(self, anatomy: Anatomy) -> None:
        known = anatomy.table is not None
        self.layers = {f"{path}.": number for number, path in anatomy.layers()} if known else {}

    def of(self, module: str) -> int | None:
        if self.layers:
            return next((number for path, number in self.layers.items() if module.startswith(path)), None)
        found = re.search(r"\.([0-9]+)\.", f".{module}.")
        return None if found is None else int(found[1])


def _inverse(
    composition: Composition | Rows | None, inverses: Mapping[str, InversePart]
) -> InversePart | _InverseFork | None:
    """The first adapter's block, as in the peer; under batch and rows that of each branch on its own rows."""
    if composition is None:
        return None
    if isinstance(composition, str):
        return inverses.get(composition)
    if isinstance(composition, Rows) or composition.kind == "batch":
        own = composition.parts if isinstance(composition, Block) else dict.fromkeys(composition.parts)
        branches = tuple(_inverse(part, inverses) for part in own)
        return None if all(branch is None for branch in branches) else _InverseFork(composition, branches)
    return _inverse(composition.parts[0], inverses)


def _undo(
    composition: Composition | Rows, inverses: Mapping[str, InversePart], block: Block | Rows | None, number: int
) -> Callable[[Tensor], Tensor] | None:
    """The way back before a language head's last layer: for everything, or for a branch of ``block``."""
    own: Composition | Rows | None = composition
    if isinstance(block, Rows):
        own = list(dict.fromkeys(block.parts))[number]
    elif block is not None and block.kind == "batch":
        own = block.parts[number]
    act = _inverse(own, inverses)
    return None if act is None else act.backwards


def _inverse_acts(act: InversePart | _InverseFork | None, anatomy: Anatomy) -> Iterator[Act]:
    if act is None:
        return
    yield from embeddings_acts(act.forwards, anatomy)
    for name in output_embeddings(anatomy):
        yield Act(Point(name, "before"), _Backwards(act))


class _InverseFork:
    """A block for each branch's rows."""

    def __init__(self, block: Block | Rows, branches: tuple[InversePart | _InverseFork | None, ...]) -> None:
        self.division = Division(block)
        self.branches = branches

    def forwards(self, x: Tensor) -> Tensor:
        pieces = zip(self.branches, self.division.divide(x), strict=True)
        return self.division.join([own if branch is None else branch.forwards(own) for branch, own in pieces])

    def backwards(self, y: Tensor) -> Tensor:
        pieces = zip(self.branches, self.division.divide(y), strict=True)
        return self.division.join([own if branch is None else branch.backwards(own) for branch, own in pieces])


class _Backwards:
    def __init__(self, act: InversePart | _InverseFork) -> None:
        self.act = act

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        return (self.act.backwards(args[0]), *args[1:]), kwargs
