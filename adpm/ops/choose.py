"""Choosing the releases that a project needs: the resolver, once for each of its bases.

Packages for different bases have nothing to do with each other. Inside a base a *slot* makes of a package another one,
which only the project itself can want: the resolver knows it as ``NAME:SLOT``. What a release in a slot requires is met
in that slot where the project wants that package there too, else outside of slots.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from adpm.core.base import BaseIdentity
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, package_key
from adpm.core.manifest import Wanted
from adpm.core.names import Alias, PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.ops.project import Project
from adpm.resolve import problem
from adpm.resolve.solve import resolve

__all__ = ["Candidates", "Choice", "choose"]


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
    kept = _kept(project, before, update)
    choices = []
    for base, identity in bases.items():
        wanted = [_Line(w, direct.get(w.alias)) for w in project.manifest.adapters if w.base == base]
        slotted = _Slotted(source, {_node(w.pinned.name, w.wanted.slot) for w in wanted if w.wanted.slot is not None})
        asked = _problem(project, wanted, slotted.nodes)
        asked = replace(asked, base=identity, locked=kept.get(base, {}), before=moment)
        try:
            chosen = resolve(asked, slotted).chosen
        except NoSolutionError as error:
            if base is not None:
                error.what += f" on the base {base}"
            raise
        choices += [Choice(slotted.original(listing), base, _parts(node)[1]) for node, listing in chosen.items()]
    return choices


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
            replace(r, name=node) if (node := _node(r.name, slot)) in self.nodes else r for r in listing.requires
        )
        return replace(listing, name=_node(listing.name, slot), requires=requires)

    def original(self, listing: Listing) -> Listing:
        package, slot = _parts(listing.name)
        if slot is None:
            return listing
        return next(entry for entry in self._source.candidates(package, slot) if entry.manifest == listing.manifest)


def _node(name: PackageName, slot: str | None) -> PackageName:
    return PackageName(package_key(name, None, slot))


def _parts(node: PackageName) -> tuple[PackageName, str | None]:
    name, _, slot = node.partition(":")
    return PackageName(name), slot or None


def _problem(project: Project, wanted: Sequence[_Line], slots: Collection[PackageName]) -> problem.Problem:
    rules, text = project.manifest.rules, project.manifest_bytes.decode("utf-8").splitlines()

    def quote(requirement: Requirement, slot: str | None, line: int | None) -> problem.Wanted:
        named = replace(requirement, name=_node(requirement.name, slot))
        return problem.Wanted(
            named, f"{MANIFEST_FILE}:{line}", text[line - 1].strip() if line is not None else str(named)
        )

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
            kept.setdefault(package.base, {})[_node(package.name, package.slot)] = locked
    return kept
