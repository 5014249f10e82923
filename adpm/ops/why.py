"""``adpm why`` and ``adpm tree --invert``: from a locked package up to the aliases that lead to it."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from adpm.core.lock import Lock, LockedPackage
from adpm.core.names import Alias, PackageName
from adpm.core.requirement import Requirement
from adpm.errors import NotFoundError

__all__ = ["Dependent", "Link", "find_locked", "invert", "why"]


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a chain: a package, and the requirement of the step before that led to it."""

    requirement: Requirement
    package: LockedPackage


@dataclass(frozen=True, slots=True)
class Dependent:
    """Who requires something: an alias or a locked package, with which requirement, and who requires that in turn.

    At the top of a tree stands the package itself, with no requirement. ``seen``: it stands in the tree above.
    """

    who: Alias | LockedPackage
    requirement: Requirement | None
    dependents: tuple[Dependent, ...] = ()
    seen: bool = False


def find_locked(lock: Lock, word: str) -> LockedPackage:
    """The locked package of this name or alias; ``NotFoundError`` (``package-not-locked``)."""
    adapter = lock.adapters.get(Alias(word))
    name = PackageName(word) if adapter is None else adapter.requirement.name
    if name not in lock.packages:
        close = difflib.get_close_matches(word, [*lock.adapters, *lock.packages], n=1)
        raise NotFoundError(
            "package-not-locked",
            f"{word!r} is neither a locked package nor an alias",
            hint=f"did you mean {close[0]!r}?" if close else "'adpm list' shows what is locked",
        )
    return lock.packages[name]


def why(lock: Lock, name: PackageName) -> tuple[tuple[Alias, tuple[Link, ...]], ...]:
    """For each alias that leads to ``name`` a shortest chain of requirements, in the order of the lock."""
    chains = ((alias, _chain(lock, adapter.requirement, name)) for alias, adapter in lock.adapters.items())
    return tuple((alias, chain) for alias, chain in chains if chain)


def _chain(lock: Lock, requirement: Requirement, name: PackageName) -> tuple[Link, ...]:
    """A shortest one, breadth first; of several the first by the names on the way. Empty: there is none."""
    queue = deque([(Link(requirement, lock.packages[requirement.name]),)])
    seen = {requirement.name}
    while queue:
        chain = queue.popleft()
        if chain[-1].package.name == name:
            return chain
        for needed in chain[-1].package.requires:
            if needed.name not in seen:
                seen.add(needed.name)
                queue.append((*chain, Link(needed, lock.packages[needed.name])))
    return ()


def invert(lock: Lock, name: PackageName | None = None) -> tuple[Dependent, ...]:
    """The tree from ``name`` up to the aliases; without a name from every package that requires no other."""
    shown: set[PackageName] = set()

    def grow(package: LockedPackage, requirement: Requirement | None) -> Dependent:
        if package.name in shown:
            return Dependent(package, requirement, seen=True)
        shown.add(package.name)
        above = (
            Dependent(who, needed) if isinstance(who, Alias) else grow(who, needed)
            for who, needed in _dependents(lock, package.name)
        )
        return Dependent(package, requirement, tuple(above))

    if name is not None:
        return (grow(lock.packages[name], None),)
    bottoms = [package for package in lock.packages.values() if not package.requires]
    trees = [grow(package, None) for package in bottoms]
    trees.extend(grow(package, None) for package in lock.packages.values() if package.name not in shown)  # in cycles
    return tuple(trees)


def _dependents(lock: Lock, name: PackageName) -> Iterator[tuple[Alias | LockedPackage, Requirement]]:
    for alias, adapter in lock.adapters.items():
        if adapter.requirement.name == name:
            yield alias, adapter.requirement
    for package in lock.packages.values():
        for requirement in package.requires:
            if requirement.name == name:
                yield package, requirement
