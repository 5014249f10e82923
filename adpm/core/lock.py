"""``adapter.lock`` as a value: one consistent set of releases, every byte pinned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.composition import Composition
from adpm.core.names import Alias, PackageName
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules

__all__ = ["Lock", "LockedAdapter", "LockedPackage"]


@dataclass(frozen=True, slots=True)
class LockedAdapter:
    """What the manifest asked for under an alias when the lock was made."""

    requirement: Requirement
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One release, and the *name* of its registry: the address may differ from machine to machine."""

    name: PackageName
    version: Version
    registry: str
    manifest: Blob
    card: Blob
    files: tuple[File, ...]  # sorted by path
    requires: tuple[Requirement, ...] = ()  # as the project amends what the card says; sorted by name

    def blobs(self) -> Iterator[tuple[str, Blob]]:
        """Everything that must be in the store: (what it is, blob)."""
        yield "release manifest", self.manifest
        yield "card", self.card
        for file in self.files:
            yield file.path, file.blob


@dataclass(frozen=True, slots=True)
class Lock:
    """``rules`` are those that it was made with; ``before``: the moment that their ``exclude_newer`` then was."""

    base: BaseIdentity | None
    adapters: Mapping[Alias, LockedAdapter]
    compose: Mapping[str, Composition]
    packages: Mapping[PackageName, LockedPackage]
    rules: Rules = field(default_factory=Rules)
    before: str | None = None

    def names(self) -> Iterator[tuple[str, LockedPackage]]:
        """Every name a composition may use: aliases, then the names of packages that have none."""
        aliased = set()
        for alias, adapter in self.adapters.items():
            aliased.add(adapter.requirement.name)
            yield str(alias), self.packages[adapter.requirement.name]
        for name, package in self.packages.items():
            if name not in aliased:
                yield str(name), package
