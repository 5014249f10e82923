"""``adpm lock``: resolve what the manifest wants into one consistent, fully pinned set.

The project's files are not written here. Release manifests and cards, which are read to confirm what an index said, go
into the store: the install that follows need not fetch them again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from adpm import limits
from adpm.core.composition import leaves
from adpm.core.events import Changed, Listener, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.manifest import Wanted
from adpm.core.names import Alias, PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.core.settings import connections
from adpm.core.source import Source, as_wanted
from adpm.errors import CompositionError, LockOutdatedError, NoSolutionError, UsageError
from adpm.ops.base import project_base
from adpm.ops.belongs import out_of_date
from adpm.ops.changes import changes
from adpm.ops.direct import Direct, take
from adpm.ops.project import Project
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
    if before is not None and update is None and not any(out_of_date(project, before, store)):
        return Locked(before, ())
    if offline:
        raise LockOutdatedError(
            "lock-outdated",
            "adapter.lock does not belong to adapter.yaml, and resolving it anew needs the registries",
            hint="run the command once without --offline",
        )
    chain = open_chain(project)
    base = project_base(project)
    direct = _directs(project, before, update, store, listener)
    source = _Source(chain, project, direct)
    kept = _kept(before, update)
    try:
        resolution = resolve(problem.Problem(_wanted(project, direct), base, kept), source)
    except NoSolutionError as error:
        error.cause = "\n".join([error.cause or "", *_said_of_sources(error.cause or "", direct)])
        raise
    after = Lock(
        base=base,
        adapters={
            wanted.alias: LockedAdapter(_asked(wanted, direct), wanted.registry) for wanted in project.manifest.adapters
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
    """The chain as the resolver sees it: a package's candidates, from where the manifest wants it from."""

    def __init__(self, chain: Chain, project: Project, direct: Mapping[Alias, Direct]) -> None:
        self.chain = chain
        self.direct = {found.listing.name: found for found in direct.values()}
        self.pins: dict[PackageName, str] = {}
        for wanted in project.manifest.adapters:
            if not isinstance(wanted.requirement, Requirement):
                continue
            name, registry = wanted.requirement.name, wanted.registry
            if registry is not None and self.pins.setdefault(name, registry) != registry:
                raise UsageError(
                    "registry-pins-differ",
                    f"{MANIFEST_FILE} wants {name} from {self.pins[name]} and from {registry}",
                    hint="name one registry for it; a project holds one release of a package",
                )

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        if name in self.direct:
            return [self.direct[name].listing]
        return self.chain.find(name, self.pins.get(name)).listings

    def pin(self, listing: Listing, batch: Batch) -> LockedPackage:
        """The lock's entry for ``listing``, after its card and its index entry were found to agree."""
        if listing.name in self.direct:
            return self.direct[listing.name].locked
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


def _directs(
    project: Project, before: Lock | None, update: Collection[PackageName] | None, store: Store, listener: Listener
) -> dict[Alias, Direct]:
    """What the direct sources hold, by alias. A commit that is locked is kept, unless its package may move."""
    kept: dict[Source, Source] = {}
    if before is not None and (update is None or update):
        for package in before.packages.values():
            if package.source is not None and (update is None or package.name not in update):
                kept[as_wanted(package.source)] = package.source
    found: dict[Alias, Direct] = {}
    names: dict[PackageName, Source] = {}
    for wanted in project.manifest.adapters:
        if isinstance(wanted.requirement, Requirement):
            continue
        direct = take(kept.get(wanted.requirement, wanted.requirement), project.root, store, listener)
        name = direct.listing.name
        if names.setdefault(name, wanted.requirement) != wanted.requirement:
            raise UsageError(
                "sources-differ",
                f"{MANIFEST_FILE} takes {name} from {names[name]} and from {wanted.requirement}",
                hint="take it from one of them; a project holds one release of a package",
            )
        found[wanted.alias] = direct
    return found


def _said_of_sources(cause: str, direct: Mapping[Alias, Direct]) -> Iterator[str]:
    """Where the packages of direct sources that ``cause`` speaks of are from: the registries' releases don't count."""
    for found in direct.values():
        listing = found.listing
        if re.search(rf"\b{re.escape(listing.name)}(?![a-z0-9/._-]*[a-z0-9])", cause):
            yield f"{listing.name} {listing.version} is taken from {found.source}."


def _asked(wanted: Wanted, direct: Mapping[Alias, Direct]) -> Requirement:
    """What the lock says was asked for: of a direct source, the package that it holds."""
    if isinstance(wanted.requirement, Requirement):
        return wanted.requirement
    return Requirement(direct[wanted.alias].listing.name)


def _pinned(wanted: Wanted, direct: Mapping[Alias, Direct]) -> Requirement:
    """What the resolver is to choose: of a direct source, the one release that it holds."""
    if isinstance(wanted.requirement, Requirement):
        return wanted.requirement
    listing = direct[wanted.alias].listing
    return Requirement(listing.name, digest=listing.manifest.digest)


def _wanted(project: Project, direct: Mapping[Alias, Direct]) -> tuple[problem.Wanted, ...]:
    lines = project.manifest_bytes.decode("utf-8").splitlines()
    return tuple(
        problem.Wanted(
            _pinned(wanted, direct),
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
    if known.name in source.direct or known.source is not None:
        return known.name in source.direct and source.direct[known.name].source == known.source
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
