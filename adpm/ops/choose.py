"""Choosing the releases that a project needs: the resolver, once for each of its bases.

Packages for different bases have nothing to do with each other. Inside a base a *slot* makes of a package another one,
which only the project itself can want: the resolver knows it as ``NAME:SLOT``. What a release in a slot requires is met
in that slot where the project wants that package there too, else outside of slots.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.lock import Lock, package_key
from adpm.core.manifest import Wanted
from adpm.core.names import Alias, PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError, UsageError
from adpm.ops.project import Project
from adpm.resolve import problem
from adpm.resolve.solve import resolve

__all__ = ["Candidates", "Choice", "choose", "node", "questions", "registry_pins"]


class Candidates(Protocol):
    """As ``resolve.problem.Source``, for a package or for what it is in a slot."""

    def candidates(self, name: PackageName, slot: str | None) -> Sequence[Listing]: ...


class Choice(NamedTuple):
    """A release, and the base and slot that it was chosen for."""

    listing: Listing
    base: str | None
    slot: str | None

    @property
    def key(self) -> str:
        return package_key(self.listing.name, self.base, self.slot)


def choose(
    project: Project,
    source: Candidates,
    direct: Mapping[Alias, Listing],
    bases: Mapping[str | None, BaseIdentity | None],
    *,
    before: Lock | None,
    update: Collection[str] | None,
    moment: str | None,
) -> list[Choice]:
    """A release for each package that ``project`` needs on each base.

    ``direct``: by alias, the one release that its direct source holds.
    ``before`` is preferred, but for the packages with a key in ``update`` (empty: all; None: none). Raises what
    ``resolve`` does.
    """
    choices = []
    for base, asked, slotted in questions(project, source, direct, bases, before=before, update=update, moment=moment):
        try:
            chosen = _answered(asked, slotted).chosen
        except NoSolutionError as error:
            if base is not None:
                error.what += f" on the base {base}"
            raise
        choices += [Choice(slotted.original(listing), base, _parts(name)[1]) for name, listing in chosen.items()]
    return choices


def questions(
    project: Project,
    source: Candidates,
    direct: Mapping[Alias, Listing],
    bases: Mapping[str | None, BaseIdentity | None],
    *,
    before: Lock | None = None,
    update: Collection[str] | None = None,
    moment: str | None,
) -> Iterator[tuple[str | None, problem.Problem, _Slotted]]:
    """For each base by name the problem, and the source in which a package in a slot is ``node(package, slot)``."""
    kept = _kept(project, before, update)
    for base, identity in bases.items():
        wanted = [_Line(w, direct.get(w.alias)) for w in project.manifest.adapters if w.base == base]
        slotted = _Slotted(source, {node(w.pinned.name, w.wanted.slot) for w in wanted if w.wanted.slot is not None})
        keys = {node(w.pinned.name, w.wanted.slot): package_key(w.pinned.name, base, w.wanted.slot) for w in wanted}
        asked = replace(
            _problem(project, wanted, slotted.nodes),
            base=identity,
            locked=kept.get(base, {}),
            before=moment,
            first=frozenset(name for name, key in keys.items() if update and key in update),
        )
        yield base, asked, slotted


def _answered(asked: problem.Problem, source: problem.Source) -> problem.Resolution:
    """The answer in which what is ``first`` is as new as can be without moving another adapter of the project.

    Only where these can't all stay may they move as well.
    """
    others = {w.requirement.name for w in asked.wanted} - asked.first
    stay = tuple(
        problem.Wanted(Requirement(name, digest=locked.digest), LOCK_FILE, f"{name} {locked.version}")
        for name, locked in asked.locked.items()
        if asked.first and name in others and locked.digest is not None
    )
    try:
        return resolve(replace(asked, wanted=(*asked.wanted, *stay)), source)
    except NoSolutionError:
        if not stay:
            raise
        return resolve(asked, source)


def registry_pins(project: Project) -> dict[PackageName, str]:
    """The registries that the manifest names for packages."""
    pins: dict[PackageName, str] = {}
    for wanted in project.manifest.adapters:
        if isinstance(wanted.requirement, Requirement) and wanted.registry is not None:
            name, registry = wanted.requirement.name, wanted.registry
            if pins.setdefault(name, registry) != registry:
                raise UsageError(
                    "registry-pins-differ",
                    f"{MANIFEST_FILE} wants {name} from {pins[name]} and from {registry}",
                    hint="name one registry for it; a project takes a package from one place",
                )
    return pins


class _Line(NamedTuple):
    """A line under ``adapters:``, with the release if it names a direct source."""

    wanted: Wanted
    direct: Listing | None

    @property
    def pinned(self) -> Requirement:
        """What the resolver is to choose: of a direct source, the one release that it holds."""
        if isinstance(self.wanted.requirement, Requirement):
            return self.wanted.requirement
        assert self.direct is not None  # noqa: S101 - the caller took every source
        return Requirement(self.direct.name, digest=self.direct.manifest.digest)


class _Slotted:
    """A source in which the packages in slots are packages of their own."""

    def __init__(self, source: Candidates, nodes: Collection[PackageName]) -> None:
        self.nodes = nodes
        self._source = source

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        package, slot = _parts(name)
        listings = self._source.candidates(package, slot)
        return listings if slot is None else [self._in_slot(listing, slot) for listing in listings]

    def _in_slot(self, listing: Listing, slot: str) -> Listing:
        requires = tuple(
            replace(r, name=inner) if (inner := node(r.name, slot)) in self.nodes else r for r in listing.requires
        )
        return replace(listing, name=node(listing.name, slot), requires=requires)

    def original(self, listing: Listing) -> Listing:
        package, slot = _parts(listing.name)
        if slot is None:
            return listing
        return next(entry for entry in self._source.candidates(package, slot) if entry.manifest == listing.manifest)


def node(name: PackageName, slot: str | None) -> PackageName:
    """What the resolver calls a package in a slot; None: outside of slots."""
    return PackageName(package_key(name, None, slot))


def _parts(name: PackageName) -> tuple[PackageName, str | None]:
    package, _, slot = name.partition(":")
    return PackageName(package), slot or None


def _problem(project: Project, wanted: Sequence[_Line], slots: Collection[PackageName]) -> problem.Problem:
    rules, text = project.manifest.rules, project.manifest_bytes.decode("utf-8").splitlines()

    def quote(requirement: Requirement, slot: str | None, line: int | None) -> problem.Wanted:
        named = replace(requirement, name=node(requirement.name, slot))
        if line is None:
            return problem.Wanted(named, MANIFEST_FILE, str(named))
        return problem.Wanted(named, f"{MANIFEST_FILE}:{line}", text[line - 1].strip())

    overrides = []
    for override in rules.overrides:
        name = override.requirement.name
        own = sorted(slot for package, slot in map(_parts, slots) if slot is not None and package == name)
        overrides += [quote(override.requirement, slot, override.line) for slot in (None, *own)]
    return problem.Problem(
        wanted=tuple(
            replace(quote(w.pinned, w.wanted.slot, w.wanted.line), floors=w.wanted.where, prefer=w.wanted.prefer)
            for w in wanted
        ),
        overrides=tuple(overrides),
        exclude=frozenset(rules.exclude),
        order=rules.resolution,
        licenses=rules.licenses,
    )


def _kept(
    project: Project, before: Lock | None, update: Collection[str] | None
) -> dict[str | None, dict[PackageName, problem.Locked]]:
    """What the resolver should prefer, by base: everything locked but for what may move.

    Nothing where the order of preference changed.
    """
    if before is None or (update is not None and not update):
        return {}
    if before.rules.resolution != project.manifest.rules.resolution:
        return {}
    kept: dict[str | None, dict[PackageName, problem.Locked]] = {}
    for key, package in before.packages.items():
        if update is None or key not in update:
            locked = problem.Locked(package.version, package.manifest.digest)
            kept.setdefault(package.base, {})[node(package.name, package.slot)] = locked
    return kept
