"""``adpm why`` and ``adpm tree --invert``: from a locked package up to the aliases that lead to it."""

from __future__ import annotations

import difflib
from collections import deque
from dataclasses import dataclass

from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias
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
    """The locked package of this key, alias, or name, where only one has it.

    Raises ``NotFoundError`` (``package-not-locked``).
    """
    adapter = lock.adapters.get(Alias(word))
    key = word if adapter is None else adapter.key
    if key in lock.packages:
        return lock.packages[key]
    named = [package for package in lock.packages.values() if package.name == word]
    if len(named) == 1:
        return named[0]
    close = difflib.get_close_matches(word, [*lock.adapters, *lock.packages], n=1)
    if named:
        hint = f"say which is meant: {', '.join(package.key for package in named)}"
    else:
        hint = f"did you mean {close[0]!r}?" if close else "'adpm list' shows what is locked"
    raise NotFoundError(
        "package-not-locked",
        f"{word!r} is neither a locked package nor an alias" if not named else f"{word!r} is locked {len(named)} times",
        hint=hint,
    )


def why(lock: Lock, package: LockedPackage) -> tuple[tuple[Alias, tuple[Link, ...]], ...]:
    """For each alias that leads to ``package`` a shortest chain of requirements, in the order of the lock."""
    chains = ((alias, _chain(lock, adapter, package.key)) for alias, adapter in lock.adapters.items())
    return tuple((alias, chain) for alias, chain in chains if chain)


def _chain(lock: Lock, adapter: LockedAdapter, key: str) -> tuple[Link, ...]:
    """A shortest one, breadth first; of several the first by the names on the way. Empty: there is none."""
    queue: deque[tuple[Link, ...]] = deque([(Link(adapter.requirement, lock.packages[adapter.key]),)])
    seen = {adapter.key}
    while queue:
        chain = queue.popleft()
        package = chain[-1].package
        if package.key == key:
            return chain
        for needed in package.requires:
            required = lock.required(package, needed)
            if required.key not in seen:
                seen.add(required.key)
                queue.append((*chain, Link(needed, required)))
    return ()


def invert(lock: Lock, top: LockedPackage | None = None) -> tuple[Dependent, ...]:
    """The tree from ``top`` up to the aliases; without one from every package that requires no other."""
    shown: set[str] = set()
    above = _dependents(lock)

    def grow(package: LockedPackage, requirement: Requirement | None) -> Dependent:
        if package.key in shown:
            return Dependent(package, requirement, seen=True)
        shown.add(package.key)
        dependents = (
            grow(who, needed) if isinstance(who, LockedPackage) else Dependent(who, needed)
            for who, needed in above.get(package.key, ())
        )
        return Dependent(package, requirement, tuple(dependents))

    if top is not None:
        return (grow(top, None),)
    trees = [grow(package, None) for package in lock.packages.values() if not package.requires]
    trees.extend(grow(package, None) for package in lock.packages.values() if package.key not in shown)  # in cycles
    return tuple(trees)


def _dependents(lock: Lock) -> dict[str, list[tuple[Alias | LockedPackage, Requirement]]]:
    """By the key of a package who requires it: aliases, then packages."""
    found: dict[str, list[tuple[Alias | LockedPackage, Requirement]]] = {}
    for alias, adapter in lock.adapters.items():
        found.setdefault(adapter.key, []).append((alias, adapter.requirement))
    for package in lock.packages.values():
        for requirement in package.requires:
            found.setdefault(lock.required(package, requirement).key, []).append((package, requirement))
    return found
