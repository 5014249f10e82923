"""A composition of adapters to a plan: which hook points it needs, and the operation at each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from adpm.core.composition import Block, Composition
from adpm.errors import CompositionError, NotFoundError
from adpm.runtime.adapter import Adapter
from adpm.runtime.anatomy import Anatomy, Site, output_embeddings
from adpm.runtime.hooks import Act, Plan, Point, plan_of
from adpm.runtime.layers import LayerPart, after_layer
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.methods.fused import FusedPart
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.inverse import InversePart
from adpm.runtime.methods.low_rank import LowRankPart
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.outputs import head_points
from adpm.runtime.sublayer import embeddings_acts, sublayer_acts

__all__ = ["make_plan", "stacked"]


def stacked(composition: Composition) -> list[str]:
    """The names of a single adapter or a stack, first to last; ``composition-unsupported`` for anything else."""
    if not isinstance(composition, Block):
        return [composition]
    if composition.kind != "stack":
        raise CompositionError(
            "composition-unsupported",
            f"adpm does not run {composition.kind} yet",
            cause=f"in {composition}",
            hint="a name and stack(a, b) are what it runs",
        )
    return [name for part in composition.parts for name in stacked(part)]


def make_plan(composition: Composition, adapters: Mapping[str, Adapter], anatomy: Anatomy) -> Plan:
    """The plan of ``composition``. Raises ``CompositionError`` and ``NotFoundError`` (``adapter-not-found``)."""
    names = stacked(composition)
    for name in names:
        if name not in adapters:
            known = ", ".join(sorted(adapters)) or "none"
            raise NotFoundError("adapter-not-found", f"the model has no adapter {name!r}", hint=f"it has {known}")
    stack = [adapters[name] for name in names]
    sites: dict[Site, list[BottleneckPart]] = defaultdict(list)
    layers: dict[str, list[LayerPart]] = defaultdict(list)
    heads: list[HeadPart] = []
    acts: list[Act] = []
    for adapter in stack:
        for part in adapter.parts.values():
            if isinstance(part, BottleneckPart):
                sites[part.site].append(part)
            elif isinstance(part, (LowRankPart, FusedPart, BiasPart, ModulePart)):
                layers[part.layer].append(part)
            elif isinstance(part, HeadPart):
                heads.append(part)
            elif isinstance(part, InversePart) and adapter is stack[0]:  # as in the peer, only the first one's counts
                acts += _inverse_acts(part, anatomy)
    for site, bottlenecks in sites.items():
        acts += sublayer_acts(site, bottlenecks, anatomy)
    for name, parts in layers.items():
        acts.append(Act(Point(name, "after"), after_layer(parts)))
    if heads:
        acts += [Act(point, call) for point, call in head_points(heads[-1], anatomy).items()]
    return plan_of(acts)


def _inverse_acts(part: InversePart, anatomy: Anatomy) -> Iterator[Act]:
    yield from embeddings_acts(part.forwards, anatomy)
    for name in output_embeddings(anatomy):
        yield Act(Point(name, "before"), _Backwards(part))


class _Backwards:
    def __init__(self, part: InversePart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        return (self.part.backwards(args[0]), *args[1:]), kwargs
