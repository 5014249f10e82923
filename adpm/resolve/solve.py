"""One release of each package a project needs, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable

from adpm import limits
from adpm.core.names import PackageName
from adpm.core.requirement import Requirement
from adpm.errors import BudgetError, RegistryError
from adpm.resolve.catalog import AtHand, Catalog
from adpm.resolve.explain import no_solution
from adpm.resolve.fetch import Fetcher
from adpm.resolve.package import Package
from adpm.resolve.problem import Problem, Resolution, Source
from adpm.resolve.provider import Provider
from adpm.resolve.search import Refuted, Selected, SpentError, search
from adpm.resolve.settle import settle

__all__ = ["resolve"]


def resolve(
    problem: Problem,
    source: Source,
    *,
    decisions: int = limits.RESOLVER_DECISIONS,
    threads: int = limits.PREFETCH_THREADS,
) -> Resolution:
    """Choose one release of everything ``problem`` wants and of all that requires in turn, and nothing else.

    What is locked stays where it may; else the newest final release is taken, or the oldest if so ordered. The answer
    depends on the problem and the releases alone: not on the order of either, nor on which answer came first.
    ``threads``: how many packages are asked for at once; 1 asks in the caller's thread, right for a source with
    everything at hand.

    Raises ``NoSolutionError`` (``no-solution``) with an explanation; ``BudgetError`` (``resolver-budget``) after
    ``decisions`` choices, which says nothing of whether a solution exists; ``RegistryError`` (``version-conflict``)
    if a release is needed of whose version there are two; and what ``source`` raises about a package it is asked for.
    """
    with Fetcher(source, threads) as fetcher:
        catalog = Catalog(problem, fetcher)
        if threads > 1:
            catalog.prefetch()
        provider = Provider(catalog, problem.first)
        try:
            found = search(problem.wanted, provider, decisions)
        except SpentError as spent:
            raise BudgetError(
                "resolver-budget",
                f"the resolver gave up after {spent.decisions:,} decisions",
                cause="neither a solution was found nor a proof that there is none",
                hint="narrow the constraints in adapter.yaml, or pin some of its adapters with '=='",
                decisions=spent.decisions,
            ) from None
        if isinstance(found, Refuted):
            raise no_solution(problem, AtHand(catalog, provider.met), found)
        return _resolution(problem, catalog, settle(problem, catalog, found, decisions))


def _resolution(problem: Problem, catalog: Catalog, found: Selected) -> Resolution:
    chosen = {name: catalog[name].releases[place] for name, place in found.places.items()}
    twins = [name for name, place in found.places.items() if len(catalog[name].twins(place)) > 1]
    if twins:
        required = [r for name, place in found.places.items() for r in catalog[name].requires(place).values()]
        for name in twins:
            if not _identified(problem, required, catalog[name], found.places[name]):
                raise _conflict(catalog[name], found.places[name])
    return Resolution({PackageName(name): chosen[name] for name in sorted(chosen)}, found.decisions)


def _identified(problem: Problem, required: Iterable[Requirement], package: Package, place: int) -> bool:
    """Whether something names this release by its digest, and not only by its version."""
    digest, locked = package.releases[place].manifest.digest, problem.locked.get(package.name)
    if locked is not None and locked.digest == digest:
        return True
    requirements = [*(wanted.requirement for wanted in problem.wanted), *required]
    return any(r.name == package.name and r.digest == digest for r in requirements)


def _conflict(package: Package, place: int) -> RegistryError:
    twins = [release.manifest.digest for release in package.twins(place)]
    return RegistryError(
        "version-conflict",
        f"there are {len(twins)} different releases of {package.name} {package.versions[place]}",
        cause="\n".join(twins),
        hint=f"name the one you trust in adapter.yaml: '{package.name}@{twins[0]}'",
        package=package.name,
        version=package.versions[place],
        digests=tuple(twins),
    )
