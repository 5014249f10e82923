"""Find a short proof where the search found a long one.

Two things make a proof longer than its reason: requirements that only happened to take part, and releases of a
package refuted one by one. So the search is repeated on weaker problems that are still without a solution: with fewer
of the project's requirements, and with *blurred* packages, whose releases are all taken to require only what every
one of them requires. What has no solution blurred has none, and the proof says "every version of a requires b >=2".
All this asks the source for nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

from nab_resolver.types import RangeProtocol

from adpm.resolve.catalog import AtHand, NotAtHandError
from adpm.resolve.facts import Unmet
from adpm.resolve.package import Package, members
from adpm.resolve.problem import Wanted
from adpm.resolve.proof import Depends, Node, leaves, simplify, steps
from adpm.resolve.provider import Clause, Provider
from adpm.resolve.search import Refuted, Selected, SpentError, search
from adpm.resolve.versions import VersionSet

__all__ = ["Trials"]


class _Trial(Provider):
    """A provider that blurs the packages in ``blurred``, which maps them to the releases that are meant."""

    def __init__(self, packages: AtHand, blurred: Mapping[str, int]) -> None:
        super().__init__(packages)
        self._at_hand = packages
        self._blurred = blurred

    def alike(self, package: Package, place: int) -> int:
        return self._blur(package, place) or super().alike(package, place)

    def widen_decision(self, package: str, version: int) -> RangeProtocol[int]:
        return VersionSet(self.alike(self.package(package), version))

    def needs(self, package: Package, place: int) -> dict[str, int]:
        blurred = members(self._blur(package, place))
        if not blurred:
            return super().needs(package, place)
        return _required_by_all(self._at_hand, package, blurred)

    def unmet(self, package: Package, place: int, name: str) -> Unmet:
        blurred = self._blur(package, place)
        if not blurred:
            return super().unmet(package, place, name)
        return Unmet(package.name, blurred, package.requires(place)[name])

    def clauses(self, package: Package) -> Iterator[Clause]:
        return iter(()) if package.name in self._blurred else super().clauses(package)

    def follow(self, fact: Unmet) -> None:
        """A short search need not be told; what blurred packages require is not what their releases say."""

    def _blur(self, package: Package, place: int) -> int:
        blurred = self._blurred.get(package.name, 0)
        return blurred if blurred >> place & 1 else 0


def _required_by_all(packages: AtHand, package: Package, places: Sequence[int]) -> dict[str, int]:
    """What every one of these releases requires at the least: releases by package, as far as it is at hand."""
    said = [package.requires(place) for place in places]
    common = [name for name in said[0] if name in packages and all(name in requires for requires in said)]
    return {name: reduce(operator.or_, (packages[name].meeting(r[name]) for r in said)) for name in common}


class Trials:
    """Searches over what is at hand, ``decisions`` in all. A trial that can't be finished tells nothing: None."""

    def __init__(self, packages: AtHand, decisions: int) -> None:
        self._packages = packages
        self._left = decisions

    def selected(self, wanted: Sequence[Wanted]) -> Selected | None:
        """A solution of ``wanted``, if one is found."""
        found = self._search(wanted, {})
        return found if isinstance(found, Selected) else None

    def shortest(self, proof: Node) -> Node:
        """The proof, or one that rests on less and is no longer."""
        everything = self._blurrable(proof)
        short = self._refuted(_wanted(proof), everything)
        if short is None:
            everything = {}
            short = proof
        for one in _wanted(short):
            fewer = [w for w in _wanted(short) if w is not one]
            if len(fewer) + 1 == len(_wanted(short)):
                short = self._refuted(fewer, everything) or short
        if not everything:
            short = self._blurred_one_by_one(short)
        return short if len(steps(short)) <= len(steps(proof)) else proof

    def _blurred_one_by_one(self, proof: Node) -> Node:
        blurred: dict[str, int] = {}
        for name, releases in self._blurrable(proof).items():
            short = self._refuted(_wanted(proof), {**blurred, name: releases})
            if short is not None and len(steps(short)) <= len(steps(proof)):
                blurred[name] = releases
                proof = short
        return proof

    def _refuted(self, wanted: Sequence[Wanted], blurred: Mapping[str, int]) -> Node | None:
        found = self._search(wanted, blurred)
        return simplify(found.proof, self._packages) if isinstance(found, Refuted) else None

    def _search(self, wanted: Sequence[Wanted], blurred: Mapping[str, int]) -> Selected | Refuted | None:
        try:
            found = search(wanted, _Trial(self._packages, blurred), self._left)
        except SpentError as spent:
            self._left -= min(self._left, spent.decisions)
            return None
        except NotAtHandError:
            return None
        self._left -= found.decisions
        return found

    def _blurrable(self, proof: Node) -> dict[str, int]:
        """The packages whose requirements the proof uses, with the candidates that the project leaves them.

        What is required of a package by every release that another is left with narrows what it is left with itself.
        """
        used = {str(leaf.why.name) for leaf in leaves(proof) if isinstance(leaf.why, Depends | Unmet)}
        left: dict[str, int] = {}
        narrowed: list[tuple[str, int]] = []
        for wanted in _wanted(proof):
            name = wanted.requirement.name
            narrowed.append((name, self._packages[name].meeting(wanted.requirement)))
        while narrowed:
            other, releases = narrowed.pop()
            before = left.get(other, self._fitting(other))
            if before & releases and (other not in left or before & ~releases):
                left[other] = before & releases
                narrowed += _required_by_all(self._packages, self._packages[other], members(left[other])).items()
        return {name: left.get(name) or self._fitting(name) for name in sorted(used)}

    def _fitting(self, name: str) -> int:
        package = self._packages[name]
        return package.candidates & ~reduce(operator.or_, (misfit.releases for misfit in package.misfits), 0)


def _wanted(proof: Node) -> list[Wanted]:
    return [leaf.why for leaf in leaves(proof) if isinstance(leaf.why, Wanted)]
