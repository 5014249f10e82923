"""A composition of adapters to a plan: which hook points it needs, and the operation at each.

A site where bottlenecks act is lowered to the cheapest form that is exact (``methods/bottleneck.py`` has the formulas):

* *sum*: every adapter maps h + r to h + r + change(N(h + r)): one hook after the norm N, whose input is h + r and whose
  output is N(h + r), does all;
* *hidden*: every adapter looks at h alone: one hook on what makes h does all;
* *general*: r is captured on its way into the sub-layer, so that the hook on what makes h has both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adpm.core.composition import Block, Composition
from adpm.errors import CompositionError, NotFoundError
from adpm.runtime.adapter import Adapter
from adpm.runtime.anatomy import Anatomy, Site, output_embeddings
from adpm.runtime.hooks import Capture, Plan, Point, chained
from adpm.runtime.layers import layer_points
from adpm.runtime.methods.bottleneck import BottleneckPart, run_stack
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.methods.inverse import InversePart
from adpm.runtime.methods.layer import LayerPart
from adpm.runtime.outputs import head_points

__all__ = ["make_plan", "stacked"]

Points = dict[Point, Callable[..., Any]]


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
    hooked: list[tuple[bool, HookedPart]] = []
    points: Points = {}
    for adapter in stack:
        for part in adapter.parts.values():
            if isinstance(part, BottleneckPart):
                sites[part.site].append(part)
            elif isinstance(part, LayerPart):
                layers[part.layer].append(part)
            elif isinstance(part, HeadPart):
                heads.append(part)
            elif isinstance(part, HookedPart):
                hooked.append((adapter is stack[0], part))
            elif isinstance(part, InversePart) and adapter is stack[0]:  # as in the peer, only the first one's counts
                points |= _inverse_points(part, anatomy)
    for site, bottlenecks in sites.items():
        points |= _bottleneck_points(site, bottlenecks, anatomy.module(site.norm))
    for name, parts in layers.items():
        points |= layer_points(name, parts)
    _check_alone(hooked, composition)
    for is_first, hooks in hooked:
        if is_first or not hooks.FIRST_ALONE:
            for point, act in hooks.acts(anatomy).items():
                points[point] = chained(point, points.get(point), act)
    if heads:
        points |= head_points(heads[-1], anatomy)
    return Plan(points)


def _check_alone(hooked: Sequence[tuple[bool, HookedPart]], composition: Composition) -> None:
    alone = [part for _, part in hooked if part.ALONE]
    if len(alone) > 1:
        raise CompositionError(
            "composition-unsupported",
            "only one adapter can put virtual tokens before a model's input",
            cause=f"in {composition}",
        )


def _bottleneck_points(site: Site, parts: Sequence[BottleneckPart], norm: nn.Module) -> Points:
    normed_last = parts[-1].config.original_ln_after
    if normed_last and all(part.adds_to_sum for part in parts):
        return {Point(site.norm, "after"): _Sum(parts)}
    if normed_last and all(part.needs_hidden_alone for part in parts):
        return {Point(site.hidden, "after"): _Hidden(parts)}
    general = _General(site, parts, norm)
    points: Points = {
        Point(site.residual, "before"): general.before,
        Point(site.hidden, "after"): general.after_hidden,
    }
    if normed_last:
        return points
    points[Point(site.norm, "after")] = general.after_norm
    return points


class _Sum:
    """After the norm: its input is the sum, its output the normed sum."""

    def __init__(self, parts: Sequence[BottleneckPart]) -> None:
        self.parts = tuple(parts)

    def __call__(self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        total = args[0]
        for part in self.parts:
            total = total + part.change(output)
            output = norm.forward(total)
        return output


class _Hidden:
    """After what makes h: no adapter needs more."""

    def __init__(self, parts: Sequence[BottleneckPart]) -> None:
        self.parts = tuple(parts)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        hidden = output[0] if isinstance(output, tuple) else output
        for part in self.parts:
            hidden = part.apply(hidden, hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class _General:
    """Three hooks that hand on what the next one needs."""

    def __init__(self, site: Site, parts: Sequence[BottleneckPart], norm: nn.Module) -> None:
        self.position, self.keywords = site.position, site.keywords
        self.parts = tuple(parts)
        self.norm = norm
        self.residual = Capture()
        self.result = Capture()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        if self.position < len(args):
            self.residual.put(args[self.position])
        else:
            self.residual.put(next(kwargs[word] for word in self.keywords if word in kwargs))

    def after_hidden(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = run_stack(self.parts, hidden, self.residual.take(), self.norm.forward)
        self.result.put(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def after_norm(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        return self.result.take()


def _inverse_points(part: InversePart, anatomy: Anatomy) -> Points:
    points: Points = {Point(anatomy.prefix + anatomy.family().embeddings, "after"): _Forwards(part)}
    for name in output_embeddings(anatomy):
        points[Point(name, "before")] = _Backwards(part)
    return points


class _Forwards:
    def __init__(self, part: InversePart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        return self.part.forwards(output)


class _Backwards:
    def __init__(self, part: InversePart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        return (self.part.backwards(args[0]), *args[1:]), kwargs
