"""``adpm lock``: resolve what the manifest wants into one consistent, fully pinned set.

The project's files are not written here. Release manifests and cards, which are read to confirm what an index said, go
into the store: the install that follows need not fetch them again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.composition import leaves
from adpm.core.events import Changed, Listener, ignore
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.errors import CompositionError, LockOutdatedError, NoSolutionError, UsageError
from adpm.ops.base import project_base
from adpm.ops.changes import changes
from adpm.ops.merge import Merge, read_conflict
from adpm.ops.project import Project, differences
from adpm.ops.registries import open_chain
from adpm.registry.chain import Chain
from adpm.resolve import problem
from adpm.resolve.solve import resolve
from adpm.store.parallel import in_parallel
from adpm.store.store import Batch, Store

__all__ = ["Locked", "lock", "question", "source_of"]


@dataclass(frozen=True, slots=True)
class Locked:
    """The lock that belongs to the manifest, and how it differs from the one before."""

    lock: Lock
    changes: tuple[Changed, ...]


def lock(
    project: Project,
    store: Store,
    *,
    update: Collection[PackageName] | None = None,
    offline: bool = False,
    listener: Listener = ignore,
) -> Locked:
    """The lock that belongs to ``project``.

    A lock that already belongs to the manifest is kept without asking a registry. ``update`` names the packages that
    may move to newer releases; an empty collection: all of them; None: only what must. A lock with git's conflict
    markers is resolved: out of what the two sides have locked where that goes together, else with the registries,
    what the sides agree on being preferred.
    """
    conflict = None if update is not None else read_conflict(project.lock_bytes() or b"")
    if conflict is not None:
        return _settled(project, store, conflict, offline=offline, listener=listener)
    before = project.lock(references=update is not None)
    if before is not None and update is None and not any(differences(project.manifest, before)):
        return Locked(before, ())
    return _resolved(project, store, before, update=update, offline=offline, listener=listener)


def _settled(project: Project, store: Store, conflict: Merge, *, offline: bool, listener: Listener) -> Locked:
    """The lock out of two sides; ``changes`` are those to our side."""
    base = conflict.known_base(project_base(project))
    try:
        packages = conflict.chosen(_wanted(project), base, _pins(project))
    except NoSolutionError:
        before = replace(conflict.ours, packages=conflict.preferred())
        return _resolved(project, store, before, ours=conflict.ours, offline=offline, listener=listener)
    return _told(conflict.ours, _assembled(project, base, packages), listener)


def _resolved(
    project: Project,
    store: Store,
    before: Lock | None,
    *,
    ours: Lock | None = None,
    update: Collection[PackageName] | None = None,
    offline: bool,
    listener: Listener,
) -> Locked:
    """The lock out of what the registries have, ``before`` being preferred; ``changes`` are those to ``ours``."""
    if offline:
        raise LockOutdatedError(
            "lock-outdated",
            "adapter.lock does not belong to adapter.yaml, and resolving it anew needs the registries",
            hint="run the command once without --offline",
        )
    base = project_base(project)
    source = source_of(project)
    resolution = _answered(question(project, base, _kept(before, update)), source, update)
    packages = _pin(source, store, before, list(resolution.chosen.values()))
    return _told(ours or before, _assembled(project, base, packages), listener)


def _assembled(project: Project, base: BaseIdentity | None, packages: Mapping[PackageName, LockedPackage]) -> Lock:
    after = Lock(
        base=base,
        adapters={
            wanted.alias: LockedAdapter(wanted.requirement, wanted.registry) for wanted in project.manifest.adapters
        },
        compose=dict(project.manifest.compose),
        packages=packages,
    )
    _check_compositions(after)
    return after


def _told(before: Lock | None, after: Lock, listener: Listener) -> Locked:
    found = tuple(changes(before, after))
    for change in found:
        listener(change)
    return Locked(after, found)


def _pins(project: Project) -> dict[PackageName, str]:
    """The registries that the manifest names for packages."""
    pins: dict[PackageName, str] = {}
    for wanted in project.manifest.adapters:
        name, registry = wanted.requirement.name, wanted.registry
        if registry is not None and pins.setdefault(name, registry) != registry:
            raise UsageError(
                "registry-pins-differ",
                f"{MANIFEST_FILE} wants {name} from {pins[name]} and from {registry}",
                hint="name one registry for it; a project holds one release of a package",
            )
    return pins


def question(
    project: Project, base: BaseIdentity | None, kept: Mapping[PackageName, problem.Locked]
) -> problem.Problem:
    """What the resolver is asked for ``project``, what is ``kept`` being preferred."""
    return problem.Problem(_wanted(project), base, kept)


def _answered(
    asked: problem.Problem, source: problem.Source, update: Collection[PackageName] | None
) -> problem.Resolution:
    """The answer in which what ``update`` names is as new as can be without moving another adapter of the project.

    Only where these can't all stay may they move as well.
    """
    if not update:
        return resolve(asked, source)
    asked = replace(asked, first=frozenset(update))
    others = {w.requirement.name for w in asked.wanted} - set(update)
    stay = tuple(
        problem.Wanted(Requirement(name, digest=locked.digest), LOCK_FILE, f"{name} {locked.version}")
        for name, locked in asked.locked.items()
        if name in others and locked.digest is not None
    )
    try:
        return resolve(replace(asked, wanted=(*asked.wanted, *stay)), source)
    except NoSolutionError:
        return resolve(asked, source)


def source_of(project: Project) -> _Source:
    """Whom the resolver asks."""
    return _Source(open_chain(project), project)


class _Source:
    """The chain as the resolver sees it: a package's candidates, from the registry that the manifest pins for it."""

    def __init__(self, chain: Chain, project: Project) -> None:
        self.chain = chain
        self.pins = _pins(project)

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        return self.chain.find(name, self.pins.get(name)).listings

    def pin(self, listing: Listing, batch: Batch) -> LockedPackage:
        """The lock's entry for ``listing``, after its card and its index entry were found to agree."""
        registry = self.chain.find(listing.name, self.pins.get(listing.name)).registry
        confirmed = registry.confirmed(listing)
        release = confirmed.release
        batch.put([confirmed.manifest_data], release.manifest)
        batch.put([confirmed.card_data], release.card)
        return LockedPackage(
            name=listing.name,
            version=listing.version,
            registry=registry.name,
            manifest=release.manifest,
            card=release.card,
            files=release.files,
            requires=listing.requires,
        )


def _wanted(project: Project) -> tuple[problem.Wanted, ...]:
    lines = project.manifest_bytes.decode("utf-8").splitlines()
    return tuple(
        problem.Wanted(
            wanted.requirement,
            where=f"{MANIFEST_FILE}:{wanted.line}",
            text=lines[wanted.line - 1].strip() if wanted.line else str(wanted.requirement),
        )
        for wanted in project.manifest.adapters
    )


def _kept(before: Lock | None, update: Collection[PackageName] | None) -> dict[PackageName, problem.Locked]:
    """What the resolver should prefer: everything locked, but for what may move."""
    if before is None or (update is not None and not update):
        return {}
    return {
        name: problem.Locked(package.version, package.manifest.digest)
        for name, package in before.packages.items()
        if update is None or name not in update
    }


def _pin(source: _Source, store: Store, before: Lock | None, chosen: list[Listing]) -> dict[PackageName, LockedPackage]:
    """Lock entries for the chosen releases; what was locked before is not fetched again."""
    packages: dict[PackageName, LockedPackage] = {}
    new: list[Listing] = []
    for listing in chosen:
        known = None if before is None else before.packages.get(listing.name)
        if known is not None and _says(known, listing) and _same_registry(source, known):
            packages[listing.name] = known
        else:
            new.append(listing)

    with store.batch() as batch:

        def pin(listing: Listing) -> None:
            packages[listing.name] = source.pin(listing, batch)

        in_parallel(pin, new, threads=limits.CONNECTIONS)
    return dict(sorted(packages.items()))


def _says(known: LockedPackage, listing: Listing) -> bool:
    return known.manifest == listing.manifest and list(map(str, known.requires)) == list(map(str, listing.requires))


def _same_registry(source: _Source, known: LockedPackage) -> bool:
    return source.chain.find(known.name, source.pins.get(known.name)).registry.name == known.registry


def _check_compositions(lock: Lock) -> None:
    known = [name for name, _ in lock.names()]
    for name, composition in lock.compose.items():
        unknown = [leaf for leaf in leaves(composition) if leaf not in known]
        if unknown:
            raise CompositionError(
                "composition-unknown-name",
                f"compose.{name} uses {unknown[0]!r}, which is not locked",
                cause=f"{name}: {composition}",
                hint=f"names that can be used: {', '.join(known) or 'none'}",
            )
