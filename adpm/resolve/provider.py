"""What the solver asks while it searches: which release next, what it requires, which others are like it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from nab_resolver.resolver import BaseProvider
from nab_resolver.types import Incompatibility, IncompatibilityCause, RangeProtocol, Term

from adpm.resolve.catalog import Packages
from adpm.resolve.facts import Fact, Unmet
from adpm.resolve.package import Package, members
from adpm.resolve.versions import VersionSet

__all__ = ["Clause", "Provider"]

_STUBBORN: Final = 5  # conflicts after which a package is chosen before others
_AGAIN: Final = 3  # choices of one package after which the solver is told all about it

Clause = Incompatibility[str, int]


def _bits(releases: RangeProtocol[int]) -> int:
    return cast("VersionSet", releases).bits


class Provider(BaseProvider[str, int]):
    """nab's view of the packages, and what we know better than it.

    *Facts.* A release that breaks a rule, or requires what no release meets, is never offered. The reason is stated
    to the solver as a clause for all the releases it holds for (``Incompatibility.origin`` is the ``Fact``), so that
    it takes part in what the solver learns and in the proof of a failure.

    *Looking ahead.* Nor is a release offered that requires what the choices so far rule out: the solver gets the
    requirement as a clause, as if it had chosen the release, without the choice and its undoing.

    *Telling all.* The solver learns the requirements of a release when it chooses it. Once a package has been in a
    conflict, or is chosen for the third time, it gets those of all its releases at once, releases with the same
    requirement on a package in one clause, and then excludes by propagation what it would else have tried one by one.
    Without trouble this costs nothing. Only packages that the search has met are told of: it fetches nothing, and
    what it does depends on no thread.

    *Following a fact.* Where nothing meets what some releases require, neither can those be chosen that require only
    these, and so on upwards: the solver gets one clause for each package on that way, and need not come down it again
    for each release.
    """

    def __init__(self, packages: Packages, first: Collection[str] = (), held: Mapping[str, int] | None = None) -> None:
        """``first``: chosen before all others. ``held``: for some packages, the only releases that may be chosen."""
        self._first = first
        self._held = held or {}
        self.met: set[str] = set()  # the names of all packages that the search has needed to look at
        self._packages = packages
        self._ranges: Mapping[str, RangeProtocol[int]] = {}
        self._needs: dict[tuple[str, int], dict[str, VersionSet]] = {}
        self._choices: Counter[str] = Counter()
        self._came: dict[str, int] = {}  # how many packages had been chosen for when the search came to each
        self._troubled: dict[str, None] = {}
        self._told: set[str] = set()
        self._stated: set[Fact] = set()
        self._pending: list[Clause] = []
        self._unusable: dict[str, int] = {}  # of packages, the releases that facts shut out
        self._requirers: dict[str, dict[str, None]] = {}  # by package, those of which a release was seen to require it

    def package(self, name: str) -> Package:
        """The package; what the source raises if it can't be had."""
        self.met.add(name)
        return self._packages[name]

    # What nab asks

    def choose_version(self, package: str, version_range: RangeProtocol[int]) -> int | None:
        found = self.package(package)
        self._choices[package] += 1
        if self._choices[package] == _AGAIN:
            self.trouble([package])
        self._tell()
        left = _bits(version_range) & found.all
        for exclusion in found.excluded:
            if exclusion.releases & left:
                self._state(exclusion)
        left &= found.candidates & self._held.get(package, -1)
        while (place := found.best(left)) is not None:
            barred = self._barred(found, place)
            if not barred:
                return place
            left &= ~barred
        return None

    def has_satisfying_version(self, package: str, version_range: RangeProtocol[int]) -> bool:
        return self.choose_version(package, version_range) is not None

    def get_dependencies(self, package: str, version: int) -> Mapping[str, RangeProtocol[int]]:
        return self._needs[package, version]

    def widen_decision(self, package: str, version: int) -> RangeProtocol[int] | None:
        """Releases like this one, from the second choice on: a search without trouble need not look for them."""
        return None if self._choices[package] == 1 else VersionSet(self.alike(self.package(package), version))

    def narrow_for_display(self, package: str, constraint: RangeProtocol[int]) -> RangeProtocol[int]:
        return VersionSet(_bits(constraint) & self.package(package).all) if package in self.met else constraint

    def prioritize(
        self,
        package: str,
        version_range: RangeProtocol[int],
        conflict_counts: Mapping[str, int],
        culprit_counts: Mapping[str, int] | None = None,
    ) -> tuple[int, bool, bool, int, bool, int]:
        """What keeps conflicting; then ``first``; then what the lock holds, so that it stays; then the least choice.

        Then what the project wants itself; then what the search came to last: the fewer packages are left open, the
        quicker the next one is found.
        """
        del culprit_counts
        found, releases = self.package(package), _bits(version_range)
        came = self._came.setdefault(package, len(self._choices))
        conflicts = conflict_counts.get(package, 0)
        return (
            -conflicts if conflicts >= _STUBBORN else 0,
            package not in self._first,
            not found.keeps(releases),
            (releases & found.candidates).bit_count(),
            came > 0,
            -came,
        )

    def receive_partial_solution_hint(
        self, positive_ranges: Mapping[str, RangeProtocol[int]], decisions: Mapping[str, int]
    ) -> None:
        del decisions
        self._ranges = positive_ranges

    def consume_pending_clauses(self) -> list[Clause]:
        pending, self._pending = self._pending, []
        return pending

    # What we know of a release

    def alike(self, package: Package, place: int) -> int:
        """Releases that require exactly what this one does, itself among them."""
        return package.alike(place)

    def needs(self, package: Package, place: int) -> dict[str, int]:
        """What a release requires: the releases that will do, by package. Fetches the packages it names."""
        requires = package.requires(place)
        self._packages.ask(requires)
        for name in requires:
            self._requirers.setdefault(name, {})[package.name] = None
        return {name: self.package(name).meeting(requirement) for name, requirement in requires.items()}

    def unmet(self, package: Package, place: int, name: str) -> Unmet:
        """The fact that nothing meets what a release requires of ``name``, for all releases it is true of."""
        other = self.package(name)
        releases = 0
        for like in members(package.candidates):
            requirement = package.requires(like).get(name)
            if requirement is not None and not other.meeting(requirement):
                releases |= 1 << like
        return Unmet(package.name, releases, package.requires(place)[name])

    def _barred(self, package: Package, place: int) -> int:
        """Nothing if the candidate may be chosen; else releases that may not, itself among them, and why is stated."""
        if not package.fits(place):
            for misfit in package.misfits:
                self._state(misfit)
            return sum(misfit.releases for misfit in package.misfits)
        needs = self._needs.get((package.name, place))
        if needs is None:
            found = self.needs(package, place)
            for name, releases in found.items():
                if not releases:
                    unmet = self.unmet(package, place, name)
                    self._state(unmet)
                    return unmet.releases
            needs = {name: VersionSet(releases) for name, releases in found.items()}
            self._needs[package.name, place] = needs
        for name, need in needs.items():
            allowed = self._ranges.get(name)
            if allowed is not None and not need.bits & _bits(allowed) and name != package.name:
                alike = self.alike(package, place)
                self._pending.append(_dependency(package.name, alike, name, need.bits))
                self.trouble([package.name])
                self._tell()
                return alike
        return 0

    # What we tell nab unasked

    def _state(self, fact: Fact) -> None:
        if self._add(fact) and isinstance(fact, Unmet):
            self.follow(fact)

    def _add(self, fact: Fact) -> bool:
        """State a fact, unless it was stated before."""
        if fact in self._stated:
            return False
        self._stated.add(fact)
        term = Term[str, int](fact.name, VersionSet(fact.releases))
        self._pending.append(Incompatibility([term], IncompatibilityCause.NO_VERSIONS, origin=fact))
        return True

    def follow(self, fact: Unmet) -> None:
        """Tell what becomes of the packages above, as far as the search has seen which those are."""
        below: list[tuple[str, int]] = [(fact.name, fact.releases)]
        while below:
            name, lost = below.pop()
            self._unusable[name] = self._unusable.get(name, 0) | lost
            other = self.package(name)
            above = (self.package(parent) for parent in self._requirers.get(name, ()) if parent != name)
            below += [(package.name, lost) for package in above if (lost := self._lost(package, other))]

    def _lost(self, package: Package, other: Package) -> int:
        """The releases of ``package`` that are lost with those of ``other`` that are unusable; the solver is told."""
        usable = other.candidates & ~self._unusable.get(other.name, 0)
        lost = needed = 0
        unmet: Unmet | None = None
        for place in members(package.candidates & ~self._unusable.get(package.name, 0)):
            requirement = package.requires(place).get(other.name)
            if requirement is None:
                continue
            meeting = other.meeting(requirement)
            if not meeting:
                unmet = unmet or self.unmet(package, place, other.name)
            elif not meeting & usable:
                lost, needed = lost | 1 << place, needed | meeting
        if lost:
            self._pending.append(_dependency(package.name, lost, other.name, needed))
        if unmet is not None and self._add(unmet):
            lost |= unmet.releases
        return lost

    def trouble(self, packages: Iterable[str]) -> None:
        """These were in a conflict: the solver is told all about them when it next asks for a release."""
        self._troubled.update((name, None) for name in packages if name not in self._told)

    def _tell(self) -> None:
        for name in self._troubled:
            self._told.add(name)
            self._pending += self.clauses(self.package(name))
        self._troubled.clear()

    def clauses(self, package: Package) -> Iterator[Clause]:
        """The requirements of all candidates on packages that the search has met."""
        parents: dict[tuple[str, int], int] = {}
        for place in members(package.candidates):
            for name, requirement in package.requires(place).items():
                if name in self.met and name != package.name:
                    key = name, self.package(name).meeting(requirement)
                    parents[key] = parents.get(key, 0) | 1 << place
        for (name, releases), places in parents.items():
            if releases:
                yield _dependency(package.name, places, name, releases)


def _dependency(package: str, places: int, name: str, releases: int) -> Clause:
    terms: list[Term[Any, Any]] = [
        Term(package, VersionSet(places)),
        Term(name, VersionSet(releases), positive=False),
    ]
    return Incompatibility(terms, IncompatibilityCause.DEPENDENCY)
