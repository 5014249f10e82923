"""Run the solver once: a selection, a proof that there is none, or neither within the budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from nab_resolver.errors import ResolutionError, ResolutionTerminatedError
from nab_resolver.resolver import Resolver, ResolverObserver
from nab_resolver.root import ROOT
from nab_resolver.types import Incompatibility, RootRequirement

from adpm.resolve.problem import Wanted
from adpm.resolve.provider import Provider
from adpm.resolve.versions import VersionSet

__all__ = ["Refuted", "Selected", "SpentError", "search"]

_ROUNDS = 20  # a round is one propagation; a search that spends so many on each decision is going nowhere


class SpentError(Exception):
    """The search did not end within its budget."""

    def __init__(self, decisions: int) -> None:
        super().__init__(decisions)
        self.decisions = decisions


@dataclass(frozen=True, slots=True)
class Selected:
    """The places of the chosen releases, by package; every one is needed."""

    places: dict[str, int]
    decisions: int


@dataclass(frozen=True, slots=True)
class Refuted:
    """There is no selection: the last step of the proof, whose causes are the steps before it."""

    proof: Incompatibility[str, int]
    decisions: int


class _Counter(ResolverObserver[str, int]):
    """Counts decisions up to ``limit``, and tells the provider who is in conflict."""

    def __init__(self, provider: Provider, limit: int) -> None:
        self.provider = provider
        self.limit = limit
        self.decisions = 0

    def on_decision(self, package: str, version: int, level: int) -> None:
        del package, version, level
        self.decisions += 1
        if self.decisions > self.limit:
            raise SpentError(self.limit)

    def on_conflict(self, incompatibility: Incompatibility[str, int]) -> None:
        named = (term.package for term in incompatibility.terms)
        self.provider.trouble(name for name in named if cast("object", name) is not ROOT)


def _order(wanted: Wanted) -> tuple[str, str, str, str]:
    requirement = wanted.requirement
    return requirement.name, requirement.digest or "", str(requirement.specifiers), wanted.where


def search(wanted: Iterable[Wanted], provider: Provider, limit: int) -> Selected | Refuted:
    """Choose releases for what is ``wanted`` in at most ``limit`` decisions; raises ``SpentError`` beyond.

    The answer depends on the values alone: requirements are put in order first, nothing is asked of a clock, a hash
    or a thread.
    """
    roots = [
        RootRequirement(
            str(w.requirement.name), VersionSet(provider.package(w.requirement.name).meeting(w.requirement)), w
        )
        for w in sorted(wanted, key=_order)
    ]
    counter = _Counter(provider, limit)
    resolver = Resolver(provider, counter, max_iterations=_ROUNDS * (limit + len(roots) + 1), range_type=VersionSet)
    try:
        return Selected(resolver.resolve(roots), counter.decisions)
    except ResolutionTerminatedError:
        raise SpentError(counter.decisions) from None
    except ResolutionError as failure:
        if failure.incompatibility is None:
            raise SpentError(counter.decisions) from None
        return Refuted(failure.incompatibility, counter.decisions)
