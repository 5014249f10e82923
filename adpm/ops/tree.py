"""``adpm list`` and ``adpm tree``: what the lock holds, as rows and as a forest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adpm.core.lock import Lock, LockedPackage
from adpm.core.names import Alias
from adpm.core.requirement import Requirement

__all__ = ["Branch", "Row", "rows", "tree"]


@dataclass(frozen=True, slots=True)
class Row:
    """One name that a composition may use; ``alias`` is None for what is only required."""

    alias: Alias | None
    package: LockedPackage

    @property
    def size(self) -> int:
        """Bytes of the package's files."""
        return sum(file.blob.size for file in self.package.files)


@dataclass(frozen=True, slots=True)
class Branch:
    """A package in the tree: who asked for it with which requirement, and what it requires in turn.

    ``seen``: it stands in the tree above already, so its own requirements are not repeated.
    """

    requirement: Requirement
    package: LockedPackage
    alias: Alias | None
    branches: tuple[Branch, ...]
    seen: bool = False


def rows(lock: Lock) -> Iterator[Row]:
    """The locked adapters: aliases in the lock's order, then what they require."""
    for name, package in lock.names():
        yield Row(Alias(name) if name in lock.adapters else None, package)


def tree(lock: Lock) -> tuple[Branch, ...]:
    """One branch an alias. Cycles and repetitions end in a branch that is ``seen``."""
    shown: set[str] = set()

    def grow(requirement: Requirement, package: LockedPackage, alias: Alias | None) -> Branch:
        if package.key in shown:
            return Branch(requirement, package, alias, (), seen=bool(package.requires))
        shown.add(package.key)
        inner = tuple(grow(needed, lock.required(package, needed), None) for needed in package.requires)
        return Branch(requirement, package, alias, inner)

    return tuple(grow(a.requirement, lock.packages[a.key], alias) for alias, a in lock.adapters.items())
