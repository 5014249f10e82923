"""``adpm lock``: resolve what the manifest wants into one consistent, fully pinned set.

The project's files are not written here. Release manifests and cards, which are read to confirm what an index said, go
into the store: the install that follows need not fetch them again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from adpm import limits
from adpm.core.composition import leaves
from adpm.core.events import Changed, Listener, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.settings import connections
from adpm.errors import CompositionError, LockOutdatedError, UsageError
from adpm.ops.base import project_base
from adpm.ops.changes import changes
from adpm.ops.project import Project, differences
from adpm.ops.registries import open_chain
from adpm.registry.chain import Chain
from adpm.resolve import problem
from adpm.resolve.solve import resolve
from adpm.store.parallel import in_parallel
from adpm.store.store import Batch, Store

__all__ = ["Locked", "lock"]


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
    may move to newer releases; an empty collection: all of them; None: only what must.
    """
    before = project.lock()
    if before is not None and update is None and not any(differences(project.manifest, before)):
        return Locked(before, ())
    if offline:
        raise LockOutdatedError(
            "lock-outdated",
            "adapter.lock does not belong to adapter.yaml, and resolving it anew needs the registries",
            hint="run the command once without --offline",
        )
    chain = open_chain(project)
    base = project_base(project)
    source = _Source(chain, project)
    kept = _kept(before, update)
    resolution = resolve(problem.Problem(_wanted(project), base, kept), source)
    after = Lock(
        base=base,
        adapters={
            wanted.alias: LockedAdapter(wanted.requirement, wanted.registry) for wanted in project.manifest.adapters
        },
        compose=dict(project.manifest.compose),
        packages=_pin(source, store, before, list(resolution.chosen.values())),
    )
    _check_compositions(after)
    found = tuple(changes(before, after))
    for change in found:
        listener(change)
    return Locked(after, found)


class _Source:
    """The chain as the resolver sees it: a package's candidates, from the registry that the manifest pins for it."""

    def __init__(self, chain: Chain, project: Project) -> None:
        self.chain = chain
        self.pins: dict[PackageName, str] = {}
        for wanted in project.manifest.adapters:
            name, registry = wanted.requirement.name, wanted.registry
            if registry is not None and self.pins.setdefault(name, registry) != registry:
                raise UsageError(
                    "registry-pins-differ",
                    f"{MANIFEST_FILE} wants {name} from {self.pins[name]} and from {registry}",
                    hint="name one registry for it; a project holds one release of a package",
                )

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
        if known is not None and known.manifest == listing.manifest and _same_registry(source, known):
            packages[listing.name] = known
        else:
            new.append(listing)

    with store.batch() as batch:

        def pin(listing: Listing) -> None:
            packages[listing.name] = source.pin(listing, batch)

        in_parallel(pin, new, threads=connections(), first=limits.CONNECTIONS_FIRST)
    return dict(sorted(packages.items()))


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
