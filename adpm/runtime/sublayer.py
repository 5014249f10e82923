"""How what acts on a sub-layer meets the model: hooks at its site, in the cheapest form that is exact.

With h the sub-layer's output and r its residual:

* *sum*: everything maps h + r to h + r + change(N(h + r)): one hook after the norm N, whose input is h + r and whose
  output is N(h + r), does all;
* *hidden*: everything looks at h alone: one hook on what makes h does all;
* *general*: r is captured on its way into the sub-layer, so that the hook on what makes h has both. Where h is not an
  output, but passes by before the norm (ALBERT), the hook stands before the norm, whose input is the new h + r.

An adapter with ``original_ln_after`` false leaves h' without norm and residual. In a sub-layer that ends in a norm, the
norm's output is replaced by it; where the model adds r itself, h' - r is what it gets; where it does neither, h' is
what it goes on with in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from adpm.runtime.anatomy import Anatomy, Site, View
from adpm.runtime.bottlenecks import Bottlenecks, Fusions, RunTree, check_norms, sum_form
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.added import added
from adpm.runtime.parallel import Widening, repeated
from adpm.runtime.tree import leaves_of

__all__ = ["Run", "embeddings_acts", "general_acts", "sublayer_acts"]

Norm = Callable[[Tensor], Tensor]
Run = Callable[[Tensor, Tensor], Tensor]  # (h, r) to h'
Change = Callable[[Tensor], Tensor]


def sublayer_acts(
    site: Site, tree: Bottlenecks, fusions: Fusions, anatomy: Anatomy, widening: Widening | None
) -> Iterator[Act]:
    """What a composition of bottlenecks does at ``site``; ``widening``: branches of parallel act here."""
    parts = [leaf.part for leaf in leaves_of(tree)]
    goes_on = check_norms(tree, site.name) or site.ends == "free"
    changes = sum_form(tree, fusions) if goes_on and site.ends == "norm" and site.norm else None
    if changes is not None and site.norm is not None:
        act = _Sum(changes)
        if widening is not None:
            widening.see_sum(site.name, site.norm, act, tree)
        yield Act(Point(site.norm, "after"), act, Order.SUBLAYER)
        return
    if widening is not None:
        widening.see(site.hidden.module)
    if goes_on and _takes_hidden(site) and all(part.needs_hidden_alone for part in parts):
        yield Act(Point(site.hidden.module, "after"), _Hidden(RunTree(tree, fusions, None)), Order.SUBLAYER)
    else:
        norm = None if site.norm is None else anatomy.module(site.norm).forward
        run = RunTree(tree, fusions, norm, None if goes_on else _bare(site, norm))
        yield from general_acts(site, run, goes_on=goes_on)


def general_acts(site: Site, run: Run, *, goes_on: bool) -> Iterator[Act]:
    """The general form for whatever gives h' from h and r; ``goes_on``: the model's own norm and residual follow."""
    act = _General(site, run, goes_on=goes_on)
    for view, capture in zip(site.residual, act.residual, strict=True):
        yield _see(view, capture)
    if site.hidden.when == "after":
        yield Act(Point(site.hidden.module, "after"), act.after_hidden, Order.SUBLAYER)
    elif site.norm is not None:
        yield _see(site.hidden, act.hidden)
        yield Act(Point(site.norm, "before"), act.before_norm, Order.SUBLAYER)
    if site.ends == "norm" and site.norm is not None and not goes_on:
        yield Act(Point(site.norm, "after"), act.after_norm, Order.SUBLAYER)


def _bare(site: Site, norm: Norm | None) -> Run:
    """What the model makes of h and r at ``site``."""
    after = norm if site.ends == "norm" else None
    return lambda hidden, residual: hidden + residual if after is None else after(hidden + residual)


def embeddings_acts(change: Callable[[Tensor], Tensor], anatomy: Anatomy) -> Iterator[Act]:
    """``change`` on what the embeddings give."""
    name, first_in = anatomy.embeddings()
    scaled = anatomy.family().embeddings.unscaled and hasattr(anatomy.module(name), "embed_scale")
    act = _Embeddings(change, by_turns=first_in is not None, scaled=scaled)
    if first_in is not None:
        yield Act(Point(first_in, "before"), act.begin)
    yield Act(Point(name, "after"), act.after)


def _takes_hidden(site: Site) -> bool:
    return site.hidden.when == "after" and not site.by_turns


def _see(view: View, capture: Capture) -> Act:
    call = _SeeInput(view, capture) if view.when == "before" else _SeeOutput(capture)
    return Act(Point(view.module, view.when), call, Order.SEE)


class _SeeInput:
    def __init__(self, view: View, capture: Capture) -> None:
        self.position, self.keywords = view.position, view.keywords
        self.capture = capture

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        if self.position < len(args):
            self.capture.put(args[self.position])
        else:
            self.capture.put(next(kwargs[word] for word in self.keywords if word in kwargs))


class _SeeOutput:
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002 - a hook's
        self.capture.put(output[0] if isinstance(output, tuple) else output)


class _Sum:
    """After the norm: its input is the sum, its output the normed sum."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        self.changes = changes
        self.wide_from: tuple[int, int] | None = None  # before which change to repeat the rows, and how often

    def __call__(self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        total = args[0]
        for number, change in enumerate(self.changes):
            if self.wide_from is not None and number == self.wide_from[0]:
                total, output = repeated(total, self.wide_from[1]), repeated(output, self.wide_from[1])
            total = added(total, change(output))
            output = norm.forward(total)
        return output


class _Hidden:
    """After what makes h: no adapter needs more."""

    def __init__(self, run: RunTree) -> None:
        self.run = run

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        hidden = self.run(output[0] if isinstance(output, tuple) else output, None)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class _General:
    """Hooks that hand on what the next one needs."""

    def __init__(self, site: Site, run: Run, *, goes_on: bool) -> None:
        self.run = run
        self.goes_on = goes_on
        self.adds = site.ends == "add"
        self.residual = tuple(Capture() for _ in site.residual)
        self.hidden = Capture()
        self.result = Capture()

    def after_hidden(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        residual = self._residual()
        if residual is None:  # the module serves another sub-layer now
            return None
        hidden = self.run(output[0] if isinstance(output, tuple) else output, residual)
        if not self.goes_on and self.adds:
            hidden = hidden - residual
        elif not self.goes_on:
            self.result.put(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def before_norm(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        residual, hidden = self._residual(), self.hidden.take()
        hidden = self.run(hidden, residual)
        if not self.goes_on:
            self.result.put(hidden)
            return None
        return (hidden + residual,), kwargs

    def after_norm(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        return self.result.take()

    def _residual(self) -> Any:
        seen = [capture.take() for capture in self.residual]
        return sum(seen[1:], start=seen[0])


class _Embeddings:
    def __init__(self, change: Callable[[Tensor], Tensor], *, by_turns: bool, scaled: bool) -> None:
        self.change = change
        self.by_turns = by_turns
        self.scaled = scaled
        self.begun = Capture()

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        self.begun.put(True)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        if self.by_turns and self.begun.take() is None:
            return None
        if isinstance(output, tuple):
            return (self.change(output[0]), *output[1:])
        if self.scaled:
            scale: Any = module.embed_scale
            return self.change(output / scale) * scale
        return self.change(output)
