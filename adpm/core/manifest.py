"""``adapter.yaml`` as a value: what a project wants, and what a directory publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from adpm.core.composition import Composition
from adpm.core.metrics import Floor, Preference
from adpm.core.names import Alias, PackageName
from adpm.core.release import Metric
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import Source
from adpm.core.workspace import Workspace

__all__ = ["BaseSource", "Manifest", "PackageHeader", "RegistrySource", "Wanted"]


@dataclass(frozen=True, slots=True)
class BaseSource:
    """The project's base: a model id for people and, where its files lie here, the directory they lie in."""

    model: str | None = None
    revision: str | None = None
    path: str | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """A registry by name and place. ``packages``: the patterns of names that it owns; empty: any name.

    ``mirrors``: URLs of registries that may serve its blobs.
    """

    name: str
    url: str
    packages: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of ``adapters:``: a release to choose from registries, or the direct source that holds the one.

    ``registry`` pins the registry to ask; ``line`` is where it stands in the file. ``base``: which of the project's
    ``bases`` it is for. ``slot``: a release of its own beside another of the package. ``group``: it stands under
    ``groups:`` and is installed and loaded only with that group. ``where``: what the release's scores must reach.
    """

    alias: Alias
    requirement: Requirement | Source
    registry: str | None = None
    base: str | None = None
    slot: str | None = None
    group: str | None = None
    where: tuple[Floor, ...] = ()
    prefer: Preference | None = None
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PackageHeader:
    """``package:`` in a directory that is published."""

    name: PackageName
    version: Version
    requires: tuple[Requirement, ...] = ()
    description: str | None = None
    task: str | None = None
    language: str | None = None
    license: str | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """``base`` or ``bases``, which have names, is given, not both; with ``bases`` each adapter says which it is for.

    ``members``: where this stands for a whole workspace, its members by path, each with the name under ``bases`` of its
    only base; None: it has several, or none.
    """

    base: BaseSource | None = None
    registries: tuple[RegistrySource, ...] = ()
    adapters: tuple[Wanted, ...] = ()
    compose: Mapping[str, Composition] = field(default_factory=dict)
    package: PackageHeader | None = None
    rules: Rules = field(default_factory=Rules)
    bases: Mapping[str, BaseSource] = field(default_factory=dict)
    workspace: Workspace | None = None
    members: Mapping[str, str | None] = field(default_factory=dict)
