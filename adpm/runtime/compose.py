"""A composition of adapters to a plan: which hook points it needs, and the operation at each.

A site where bottlenecks act is lowered to the cheapest form that is exact (``bottlenecks.py`` has the rules):

* *sum*: every adapter maps h + r to h + r + change(N(h + r)): one hook after the norm N, whose input is h + r and whose
  output is N(h + r), does all;
* *hidden*: every adapter looks at h alone: one hook on what makes h does all;
* *general*: r is captured on its way into the sub-layer, so that the hook on what makes h has both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from adpm.core.composition import Block, Composition, Rows, leaves
from adpm.errors import NotFoundError
from adpm.runtime.adapter import Adapter
from adpm.runtime.anatomy import Anatomy, output_embeddings
from adpm.runtime.anatomy import Site as Place
from adpm.runtime.bottlenecks import Bottlenecks, Fusions, Site, check_norms, sum_form
from adpm.runtime.division import Division
from adpm.runtime.fusion import Fusion
from adpm.runtime.hooks import Capture, Plan, Point
from adpm.runtime.layers import LayerPart, after_layer
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.methods.fusion import FusionPart
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.inverse import InversePart
from adpm.runtime.methods.low_rank import LowRankPart
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.outputs import head_points
from adpm.runtime.parallel import After, Widening, branches_of, has_parallel, repeated
from adpm.runtime.tree import leaves_of, place

__all__ = ["make_plan"]

Points = dict[Point, Callable[..., Any]]


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
    count = branches_of(composition)
    sites: dict[Place, dict[str, BottleneckPart]] = defaultdict(dict)
    layers: dict[str, dict[str, tuple[LayerPart, ...]]] = defaultdict(dict)
    heads: dict[str, HeadPart] = {}
    inverses: dict[str, InversePart] = {}
    for name in names:
        for part in adapters[name].parts.values():
            if isinstance(part, BottleneckPart):
                sites[part.site][name] = part
            elif isinstance(part, (LowRankPart, BiasPart, ModulePart)):
                layers[part.layer][name] = (*layers[part.layer].get(name, ()), part)
            elif isinstance(part, HeadPart):
                heads[name] = part
            elif isinstance(part, InversePart):
                inverses[name] = part
    points: Points = _inverse_points(composition, inverses, anatomy)
    widening = None if count == 1 else Widening(count, anatomy)
    for layer, found in layers.items():
        tree = place(composition, found.get, _layer_number(layer))
        if tree is not None:
            points[Point(layer, "after")] = after_layer(tree)
            if widening is not None and has_parallel(tree):
                widening.see(layer)
    for site, parts in sites.items():
        here = place(composition, parts.get, site.layer)
        if here is not None:
            key = site.adapters.replace(".", "/")
            found_here = {names: own for names, fusion in fusions.items() if (own := fusion.parts.get(key))}
            wide = widening if has_parallel(here) else None
            points |= _bottleneck_points(site, here, found_here, anatomy.module(site.norm), wide)
    if widening is not None:
        points = widening.add_to(points)
    speaking = place(composition, heads.get, None)
    if speaking is not None:
        for point, act in head_points(speaking, partial(_undo, composition, inverses), anatomy).items():
            points[point] = After(points[point], act) if point in points else act
    return Plan(points)


def _layer_number(name: str) -> int | None:
    """The number of the layer that a module is in: the first one in its name."""
    found = re.search(r"\.([0-9]+)\.", f".{name}.")
    return None if found is None else int(found[1])


def _bottleneck_points(
    site: Place, tree: Bottlenecks, fusions: Fusions, norm: nn.Module, widening: Widening | None
) -> Points:
    parts = [leaf.part for leaf in leaves_of(tree)]
    normed_last = check_norms(tree, site.name)
    changes = sum_form(tree, fusions) if normed_last else None
    if changes is not None:
        act = _Sum(changes)
        if widening is not None:
            widening.see_sum(site, act, tree)
        return {Point(site.norm, "after"): act}
    if widening is not None:
        widening.see(site.norm)
    if normed_last and all(part.needs_hidden_alone for part in parts):
        return {Point(site.hidden, "after"): _Hidden(Site(tree, fusions, None))}
    general = _General(site, Site(tree, fusions, norm.forward))
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

    def __init__(self, changes: tuple[Callable[[Tensor], Tensor], ...]) -> None:
        self.changes = changes
        self.wide_from: tuple[int, int] | None = None  # before which change to repeat the rows, and how often

    def __call__(self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        total = args[0]
        for number, change in enumerate(self.changes):
            if self.wide_from is not None and number == self.wide_from[0]:
                total, output = repeated(total, self.wide_from[1]), repeated(output, self.wide_from[1])
            total = total + change(output)
            output = norm.forward(total)
        return output


class _Hidden:
    """After what makes h: no adapter needs more."""

    def __init__(self, run: Site) -> None:
        self.run = run

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        hidden = self.run(output[0] if isinstance(output, tuple) else output, None)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class _General:
    """Three hooks that hand on what the next one needs."""

    def __init__(self, site: Place, run: Site) -> None:
        self.position, self.keywords = site.position, site.keywords
        self.run = run
        self.residual = Capture()
        self.result = Capture()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        if self.position < len(args):
            self.residual.put(args[self.position])
        else:
            self.residual.put(next(kwargs[word] for word in self.keywords if word in kwargs))

    def after_hidden(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = self.run(hidden, self.residual.take())
        self.result.put(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def after_norm(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        return self.result.take()


def _inverse_points(composition: Composition | Rows, inverses: Mapping[str, InversePart], anatomy: Anatomy) -> Points:
    """The first adapter's block acts, as in the peer; under batch and rows that of each branch on its own rows."""
    act = _inverse(composition, inverses)
    if act is None:
        return {}
    points: Points = {Point(anatomy.prefix + anatomy.family().embeddings, "after"): _Forwards(act)}
    for name in output_embeddings(anatomy):
        points[Point(name, "before")] = _Backwards(act)
    return points


def _inverse(
    composition: Composition | Rows | None, inverses: Mapping[str, InversePart]
) -> InversePart | _InverseFork | None:
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


class _Forwards:
    def __init__(self, part: InversePart | _InverseFork) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        return self.part.forwards(output)


class _Backwards:
    def __init__(self, part: InversePart | _InverseFork) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        return (self.part.backwards(args[0]), *args[1:]), kwargs
