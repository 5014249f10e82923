"""``adapter.lock`` as a value: one consistent set of releases, every byte pinned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.composition import Composition, leaves
from adpm.core.metrics import Floor, Preference
from adpm.core.names import Alias, PackageName
from adpm.core.release import Blob, File
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import Source
from adpm.core.workspace import ROOT, unqualified
from adpm.errors import NotFoundError

__all__ = ["Lock", "LockedAdapter", "LockedMember", "LockedPackage", "distinct", "package_key"]


@dataclass(frozen=True, slots=True)
class LockedAdapter:
    """What the manifest asked for under an alias when the lock was made; of a direct source, the package it holds."""

    requirement: Requirement
    registry: str | None = None
    base: str | None = None
    slot: str | None = None
    group: str | None = None
    where: tuple[Floor, ...] = ()
    prefer: Preference | None = None

    @property
    def key(self) -> str:
        """The key of its package in the lock."""
        return package_key(self.requirement.name, self.base, self.slot)


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
    requires: tuple[Requirement, ...] = ()  # as the project amends what the card says; sorted by name
    source: Source | None = None
    base: str | None = None  # of the project's several bases, the one that it is for
    slot: str | None = None

    @property
    def key(self) -> str:
        return package_key(self.name, self.base, self.slot)

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


def distinct(packages: Iterable[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Each entry of a lock once, told by identity: slots hold several of one name, and a hash reads all files."""
    return tuple({id(package): package for package in packages}.values())


@dataclass(frozen=True, slots=True)
class LockedMember:
    """A project of a workspace. ``base``: the name of its only base among the lock's; None: it has several, or none."""

    base: str | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """``rules`` are those that it was made with; ``before``: the moment that their ``exclude_newer`` then was.

    ``bases``: the project's bases by name, where it has several; ``base`` is None then. ``packages``: by ``key``, which
    is the package's name alone unless there are several bases or slots.

    ``members``: of a workspace, its projects by path. Its bases have names then; ``adapters`` and ``compose`` go by
    qualified aliases (``models/en:sst``), while compositions name the aliases of their own member.
    """

    base: BaseIdentity | None
    adapters: Mapping[Alias, LockedAdapter]
    compose: Mapping[str, Composition]
    packages: Mapping[str, LockedPackage]
    rules: Rules = field(default_factory=Rules)
    before: str | None = None
    bases: Mapping[str, BaseIdentity] = field(default_factory=dict)
    members: Mapping[str, LockedMember] = field(default_factory=dict)

    def of_members(self, members: Collection[str]) -> Lock:
        """This lock of a workspace with these members alone, and what they need."""
        return self._with(
            {alias: adapter for alias, adapter in self.adapters.items() if unqualified(alias)[0] in members},
            compose={name: c for name, c in self.compose.items() if unqualified(name)[0] in members},
            members={path: member for path, member in self.members.items() if path in members},
        )

    def parts(self) -> Iterator[tuple[str, Lock]]:
        """Each member with its part, in which its aliases have their own names; a lock of one project is its only part.

        Bases and packages go by the same names and keys as here.
        """
        if not self.members:
            yield ROOT, self
        for path in self.members:
            yield path, self._own(path)

    def _own(self, path: str) -> Lock:
        part = self.of_members([path])
        used = {adapter.base for adapter in part.adapters.values()} | {self.members[path].base}
        return replace(
            part,
            adapters={unqualified(alias)[1]: adapter for alias, adapter in part.adapters.items()},
            compose={unqualified(name)[1]: composition for name, composition in part.compose.items()},
            bases={name: base for name, base in self.bases.items() if name in used},
            members={},
        )

    def part(self, member: str) -> Lock:
        """What the lock of this member would be if it were alone."""
        part = self._own(member)
        only = self.members[member].base
        return part if only is None else replace(_called(part, None), base=part.bases[only], bases={})

    def with_named_base(self, name: str) -> Lock:
        """This lock of a project with one base, as if that were one of several and called so."""
        bases = {} if self.base is None else {name: self.base}
        return replace(_called(self, name), base=None, bases=bases)

    def selected(self, groups: Collection[str] = (), only: Collection[str] = ()) -> Lock:
        """This lock with the adapters that are in no group and those of ``groups``, or with those of ``only`` alone.

        Packages that none of them requires are left out, and compositions that name what is. Raises ``NotFoundError``
        (``group-unknown``).
        """
        known = {adapter.group for adapter in self.adapters.values() if adapter.group is not None}
        for group in (*groups, *only):
            if group not in known:
                raise NotFoundError(
                    "group-unknown",
                    f"no adapter is locked in a group {group!r}",
                    hint=f"groups are: {', '.join(sorted(known)) or 'none'}",
                )
        if not known:
            return self
        wanted: set[str | None] = {*only} or {None, *groups}
        part = self._with({alias: adapter for alias, adapter in self.adapters.items() if adapter.group in wanted})
        if self.members:
            return part
        return replace(part, compose={n: c for n, c in self.compose.items() if part.bases_of(c)})

    def _with(self, adapters: Mapping[Alias, LockedAdapter], **parts: Any) -> Lock:
        """This lock with these adapters alone, the packages that they need, and ``parts`` for other parts of it."""
        needed: set[str] = set()
        news = [self.packages[adapter.key] for adapter in adapters.values()]
        while news:
            package = news.pop()
            if package.key not in needed:
                needed.add(package.key)
                news += [self.required(package, requirement) for requirement in package.requires]
        packages = {key: package for key, package in self.packages.items() if key in needed}
        return replace(self, adapters=adapters, packages=packages, **parts)

    def required(self, package: LockedPackage, requirement: Requirement) -> LockedPackage:
        """What meets a requirement of ``package``: the release in its own slot where there is one."""
        own = package_key(requirement.name, package.base, package.slot)
        return self.packages[own if own in self.packages else package_key(requirement.name, package.base, None)]

    def bases_of(self, composition: Composition) -> list[str | None]:
        """The bases on which every name of ``composition`` is known; None stands for that of a project with one."""
        return [base for base in self.bases or (None,) if {*leaves(composition)} <= {n for n, _ in self.names(base)}]

    def unknown(self, composition: Composition) -> str | None:
        """The first name that keeps ``composition`` from every base; None where it has one."""
        if self.bases_of(composition):
            return None
        names = list(leaves(composition))
        known = [{name for name, _ in self.names(base)} for base in self.bases or (None,)]
        return next(name for i, name in enumerate(names) if not any({*names[: i + 1]} <= some for some in known))

    def names(self, base: str | None = None) -> Iterator[tuple[str, LockedPackage]]:
        """Every name a composition may use: aliases, then the names of packages that have none.

        Where the project has several bases, those of ``base``; None: all, packages without an alias by their keys.
        """
        aliased = set()
        for alias, adapter in self.adapters.items():
            if base in {None, adapter.base}:
                aliased.add(adapter.key)
                yield str(alias), self.packages[adapter.key]
        for key, package in self.packages.items():
            if key not in aliased and base in {None, package.base}:
                yield key if base is None else str(package.name), package


def package_key(name: PackageName, base: str | None, slot: str | None) -> str:
    """``text/sst-2``; with a base, a slot or both ``text/sst-2:BASE:SLOT``."""
    return ":".join(filter(None, (name, base, slot)))


def _called(lock: Lock, base: str | None) -> Lock:
    """``lock`` with everything in it for ``base``."""
    packages = [replace(package, base=base) for package in lock.packages.values()]
    return replace(
        lock,
        adapters={alias: replace(adapter, base=base) for alias, adapter in lock.adapters.items()},
        packages={package.key: package for package in packages},
    )
