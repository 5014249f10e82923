"""The packages of one problem, read when they are first needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Protocol

from adpm.core.base import BaseIdentity
from adpm.core.metrics import Floor, Preference
from adpm.core.names import PackageName
from adpm.core.requirement import Requirement
from adpm.errors import AdpmError
from adpm.resolve.fetch import Fetcher
from adpm.resolve.package import Misfit, Package, Parsed
from adpm.resolve.problem import Problem, Wanted

__all__ = ["AtHand", "Catalog", "NotAtHandError", "Packages"]


class Packages(Protocol):
    """Where a search finds its packages."""

    def __getitem__(self, name: str, /) -> Package: ...

    def ask(self, names: Iterable[str]) -> None: ...


class Catalog:
    """Maps names to ``Package`` for one problem; asks the fetcher for what it has not seen."""

    def __init__(self, problem: Problem, fetcher: Fetcher) -> None:
        self.problem = problem
        self._fetcher = fetcher
        self._packages: dict[str, Package] = {}
        self._specifiers: Parsed = {}
        self._wanted: dict[str, list[Requirement]] = {}
        for wanted in (*problem.wanted, *problem.overrides):
            self._wanted.setdefault(wanted.requirement.name, []).append(wanted.requirement)
        self._amendments: dict[str, Wanted | None] = {w.requirement.name: w for w in problem.overrides}
        self._amendments.update(dict.fromkeys(problem.exclude))
        self._floors: dict[str, tuple[Floor, ...]] = {}
        self._preferred: dict[str, Preference] = {}
        scored = [wanted for wanted in problem.wanted if wanted.floors or wanted.prefer is not None]
        for line in sorted(scored, key=lambda wanted: (wanted.where, str(wanted.prefer))):
            name = line.requirement.name
            self._floors[name] = tuple(dict.fromkeys((*self._floors.get(name, ()), *line.floors)))
            if line.prefer is not None:
                self._preferred.setdefault(name, line.prefer)
        self._direct = {str(wanted.requirement.name) for wanted in problem.wanted}
        self._misfit = None if problem.base is None else _misfit(problem.base)

    def __getitem__(self, name: str) -> Package:
        """The package, fetched if need be. Raises what the source raises, but for ``NotFoundError``."""
        package = self._packages.get(name)
        if package is None:
            listings = self._fetcher.get(name)
            package = Package(
                PackageName(name),
                listings,
                near=self._fetcher.near.get(name, ()),
                wanted=self._wanted.get(name, ()),
                locked=self.problem.locked.get(PackageName(name)),
                prereleases=self.problem.prereleases,
                misfit=self._misfit,
                specifiers=self._specifiers,
                amendments=self._amendments,
                before=self.problem.before,
                exclude_undated=self.problem.exclude_undated,
                lowest=self._lowest(name),
                licenses=self.problem.licenses,
                floors=self._floors.get(name, ()),
                prefer=self._preferred.get(name),
            )
            self._packages[name] = package
        return package

    def _lowest(self, name: str) -> bool:
        order = self.problem.order
        return order == "lowest" or (order == "lowest-direct" and name in self._direct)

    def ask(self, names: Iterable[str]) -> None:
        """Begin to fetch these, all at once."""
        self._fetcher.ask(name for name in names if name not in self._packages)

    def prefetch(self) -> None:
        """Fetch in parallel what a search without any conflict would need.

        Follows, from what the project wants, the preferred release of each package under the first requirement that
        led to it. A guess: the search asks for whatever else it needs.
        """
        leads = {wanted.requirement.name: wanted.requirement for wanted in reversed(self.problem.wanted)}
        self._fetcher.ask(leads)
        for name in self._fetcher.arrivals():
            try:
                package = self[name]
            except AdpmError:
                continue  # a guess may go wrong; the search asks again if it needs the answer
            place = package.best(package.candidates & package.meeting(leads[PackageName(name)]))
            for requirement in () if place is None else package.requires(place).values():
                leads.setdefault(requirement.name, requirement)
                self._fetcher.ask([requirement.name])


class NotAtHandError(Exception):
    """A package is needed that the search never met."""


class AtHand:
    """Those packages of a catalog that a search has met: nothing more is fetched.

    What the source was asked for as a guess is left out, for that may hang on which answer came first.
    """

    def __init__(self, catalog: Catalog, met: Collection[str]) -> None:
        self._catalog = catalog
        self._met = met

    def __getitem__(self, name: str) -> Package:
        if name not in self._met:
            raise NotAtHandError(name)
        return self._catalog[name]

    def __contains__(self, name: str) -> bool:
        return name in self._met

    def ask(self, names: Iterable[str]) -> None:
        """Nothing is asked for."""


def _misfit(project: BaseIdentity) -> Misfit:
    """``BaseIdentity.misfit`` against the project's base, once for each base that cards name: a sketch is long."""

    @cache
    def misfit(base: BaseIdentity) -> str | None:
        return base.misfit(project)

    return misfit
