"""``adapter.lock`` as a value: one consistent set of releases, every byte pinned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.composition import Composition
from adpm.core.names import Alias, PackageName
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.core.source import Source

__all__ = ["Lock", "LockedAdapter", "LockedPackage"]


@dataclass(frozen=True, slots=True)
class LockedAdapter:
    """What the manifest asked for under an alias when the lock was made; of a direct source, the package it holds."""

    requirement: Requirement
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One release, and where it is from: the *name* of its registry, whose address may differ from machine to machine,
    or its direct source. Exactly one of the two is given.
    """

    name: PackageName
    version: Version
    registry: str | None
    manifest: Blob
    card: Blob
    files: tuple[File, ...]  # sorted by path
    requires: tuple[Requirement, ...] = ()  # sorted by name
    source: Source | None = None

    @property
    def origin(self) -> str:
        """Where it is from, in a word: the registry's name, or the source."""
        return self.registry if self.registry is not None else str(self.source)

    def blobs(self) -> Iterator[tuple[str, Blob]]:
        """Everything that must be in the store: (what it is, blob)."""
        yield "release manifest", self.manifest
        yield "card", self.card
        for file in self.files:
            yield file.path, file.blob


@dataclass(frozen=True, slots=True)
class Lock:
    base: BaseIdentity | None
    adapters: Mapping[Alias, LockedAdapter]
    compose: Mapping[str, Composition]
    packages: Mapping[PackageName, LockedPackage]

    def names(self) -> Iterator[tuple[str, LockedPackage]]:
        """Every name a composition may use: aliases, then the names of packages that have none."""
        aliased = set()
        for alias, adapter in self.adapters.items():
            aliased.add(adapter.requirement.name)
            yield str(alias), self.packages[adapter.requirement.name]
        for name, package in self.packages.items():
            if name not in aliased:
                yield str(name), package
