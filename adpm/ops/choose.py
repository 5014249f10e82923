"""Choosing the releases that a project needs: the resolver, once for each of its bases.

Packages for different bases have nothing to do with each other. Inside a base a *slot* makes of a package another one,
which only the project itself can want: the resolver knows it as ``NAME:SLOT``. What a release in a slot requires is met
in that slot where the project wants that package there too, else outside of slots.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.lock import Lock, package_key
from adpm.core.manifest import Wanted
from adpm.core.names import Alias, Channel, Digest, PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.core.settings import connections
from adpm.core.workspace import ROOT, file_of, unqualified
from adpm.errors import NoSolutionError, NotFoundError, UsageError
from adpm.ops.project import Project
from adpm.resolve import problem
from adpm.resolve.solve import resolve
from adpm.store.parallel import in_parallel

__all__ = ["Candidates", "Choice", "choose", "node", "questions", "registry_pins"]


class Candidates(Protocol):
    """As ``resolve.problem.Source``, for a package or for what it is in a slot."""

    def candidates(self, name: PackageName, slot: str | None) -> Sequence[Listing]: ...

    def channel(self, name: PackageName, channel: Channel) -> Digest:
        """The release that a channel means now. Threads may ask at once."""
        ...


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
            _say_channels(error, [w for w in project.manifest.adapters if w.base == base], asked, slotted)
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
    """For each base by name the problem, and the source in which a package in a slot is ``node(package, slot)``.

    In the problem stands for each channel the one release that it means.
    """
    kept = _kept(project, before, update)
    meant = _meant(project, source, before, update)
    for base, identity in bases.items():
        wanted = [
            _Line(w, direct.get(w.alias), meant.get(w.alias)) for w in project.manifest.adapters if w.base == base
        ]
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
        if asked.first and name in others and locked.digest is not None and _may_stay(asked, name, locked)
    )
    try:
        return resolve(replace(asked, wanted=(*asked.wanted, *stay)), source)
    except NoSolutionError:
        if not stay:
            raise
        return resolve(asked, source)


def _may_stay(asked: problem.Problem, name: PackageName, locked: problem.Locked) -> bool:
    """Whether the lines that want a package admit what is locked: a directory may hold something else by now."""
    lines = (wanted.requirement for wanted in asked.wanted if wanted.requirement.name == name)
    return all(
        line.specifiers.contains(locked.version, prereleases=True) and line.digest in {None, locked.digest}
        for line in lines
    )


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
    """A line under ``adapters:``, with the release if it names a direct source, and that which its channel means."""

    wanted: Wanted
    direct: Listing | None
    meant: Digest | None

    @property
    def pinned(self) -> Requirement:
        """What the resolver is to choose: of a direct source and of a channel, the one release."""
        if self.meant is not None and isinstance(self.wanted.requirement, Requirement):
            return Requirement(self.wanted.requirement.name, digest=self.meant)
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
    rules, texts = project.manifest.rules, dict[str, list[str]]()

    def quote(requirement: Requirement, slot: str | None, line: int | None, member: str = ROOT) -> problem.Wanted:
        named = replace(requirement, name=node(requirement.name, slot))
        if line is None:
            return problem.Wanted(named, MANIFEST_FILE, str(named))
        if member not in texts:
            texts[member] = project.text_of(member).splitlines()
        return problem.Wanted(named, f"{file_of(member)}:{line}", texts[member][line - 1].strip())

    overrides = []
    for override in rules.overrides:
        name = override.requirement.name
        own = sorted(slot for package, slot in map(_parts, slots) if slot is not None and package == name)
        overrides += [quote(override.requirement, slot, override.line) for slot in (None, *own)]
    return problem.Problem(
        wanted=tuple(
            replace(
                quote(w.pinned, w.wanted.slot, w.wanted.line, unqualified(w.wanted.alias)[0]),
                floors=w.wanted.where,
                prefer=w.wanted.prefer,
            )
            for w in wanted
        ),
        overrides=tuple(overrides),
        exclude=frozenset(rules.exclude),
        order=rules.resolution,
        licenses=rules.licenses,
        exclude_undated=rules.exclude_undated,
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


def _meant(
    project: Project, source: Candidates, before: Lock | None, update: Collection[str] | None
) -> dict[Alias, Digest]:
    """By alias, the release that its channel means: what it meant in ``before``, unless that may move or is gone."""
    out: dict[Alias, Digest] = {}

    def ask(item: tuple[Wanted, Requirement, Channel]) -> None:
        wanted, requirement, channel = item
        digest = None if before is None else _meant_before(wanted, requirement, before, update)
        if digest is None or not _lists(source, requirement.name, wanted.slot, digest):
            digest = source.channel(requirement.name, channel)
        out[wanted.alias] = digest

    asked = [
        (wanted, wanted.requirement, wanted.requirement.channel)
        for wanted in project.manifest.adapters
        if isinstance(wanted.requirement, Requirement) and wanted.requirement.channel is not None
    ]
    in_parallel(ask, asked, threads=connections(), first=limits.CONNECTIONS_FIRST)
    return out


def _meant_before(
    wanted: Wanted, requirement: Requirement, before: Lock, update: Collection[str] | None
) -> Digest | None:
    key, locked = package_key(requirement.name, wanted.base, wanted.slot), before.adapters.get(wanted.alias)
    if locked is None or (locked.requirement, locked.registry, locked.key) != (requirement, wanted.registry, key):
        return None
    may_move = update is not None and (not update or key in update)
    package = None if may_move else before.packages.get(key)
    return None if package is None or package.source is not None else package.manifest.digest


def _lists(source: Candidates, name: PackageName, slot: str | None, digest: Digest) -> bool:
    try:
        return any(listing.manifest.digest == digest for listing in source.candidates(name, slot))
    except NotFoundError:
        return False


def _say_channels(
    error: NoSolutionError, adapters: Sequence[Wanted], asked: problem.Problem, source: problem.Source
) -> None:
    """Name each channel by its name in what is said of its release, and say which release that is.

    ``adapters``: the lines that ``asked`` states, in the same order.
    """
    for wanted, stated in zip(adapters, asked.wanted, strict=True):
        pinned = stated.requirement
        if not isinstance(wanted.requirement, Requirement) or wanted.requirement.channel is None:
            continue
        if error.cause is not None and str(pinned) in error.cause:
            named = str(replace(pinned, digest=None, channel=wanted.requirement.channel))
            means = next(str(e.version) for e in source.candidates(pinned.name) if e.manifest.digest == pinned.digest)
            told = f"{named} means {means} here; 'adpm update {wanted.alias}' asks what it means now."
            error.cause = f"{error.cause.replace(str(pinned), named)}\n{told}"
