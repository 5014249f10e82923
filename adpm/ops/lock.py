"""``adpm lock``: resolve what the manifest wants into one consistent, fully pinned set.

The project's files are not written here. Release manifests and cards, which are read to confirm what an index said, go
into the store: the install that follows need not fetch them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.events import Changed, Listener, Note, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedMember, LockedPackage, package_key
from adpm.core.metrics import spell
from adpm.core.moment import moment_of
from adpm.core.names import Alias, Channel, Digest, PackageName
from adpm.core.release import Card, Listing
from adpm.core.requirement import Requirement
from adpm.core.settings import connections
from adpm.core.source import Source, as_wanted
from adpm.core.workspace import ROOT
from adpm.errors import DocumentError, NetworkError, NoSolutionError, NotFoundError, RegistryError, UsageError
from adpm.ops.base import project_bases
from adpm.ops.belongs import out_of_date
from adpm.ops.cards import cards
from adpm.ops.changes import changes
from adpm.ops.channels import release_of
from adpm.ops.choose import Choice, choose, registry_pins
from adpm.ops.compositions import check_mixtures, check_names
from adpm.ops.direct import Direct, at_hand, changed, take
from adpm.ops.licenses import check_bases
from adpm.ops.merge import Merge, read_conflict
from adpm.ops.offline import not_locked
from adpm.ops.project import Project
from adpm.ops.registries import open_chain
from adpm.registry.chain import Chain
from adpm.store.parallel import in_parallel
from adpm.store.store import Batch, Store

__all__ = ["Locked", "lock", "moment_now", "registries_of"]


@dataclass(frozen=True, slots=True)
class Locked:
    """The lock that belongs to the manifest, and how it differs from the one before."""

    lock: Lock
    changes: tuple[Changed, ...]


def lock(
    project: Project,
    store: Store,
    *,
    update: Collection[str] | None = None,
    offline: bool = False,
    now: datetime | None = None,
    listener: Listener = ignore,
) -> Locked:
    """The lock that belongs to ``project``, or to the whole workspace that it is in.

    A lock that already belongs to the manifest is kept without asking a registry. ``update``: the keys of the packages
    that may move to newer releases, or to what their channels now mean; an empty collection: all of them; None: only
    what must. An ``exclude-newer`` that
    is an age counts back from ``now`` (None: the clock), in every resolution anew.
    A lock with git's conflict markers is resolved: out of what the two sides have locked where that goes together, else
    with the registries, what the sides agree on being preferred.
    """
    project = project.together
    conflict = None if update is not None else read_conflict(project.lock_bytes() or b"")
    if conflict is not None:
        return _settled(project, store, conflict, offline=offline, now=now, listener=listener)
    before, whole = _previous(project)
    if before is not None and whole and update is None and not any(out_of_date(project, before, store)):
        return Locked(before, ())
    after = _resolved(project, store, before, update=update, offline=offline, now=now, listener=listener)
    return _told(before, after, listener)


def _previous(project: Project) -> tuple[Lock | None, bool]:
    """The lock, and whether all is in it that it names: git's merge of the lines of two locks may have lost some."""
    try:
        return _as_now(project, project.lock()), True
    except DocumentError as error:
        if error.code != "lock-invalid":
            raise
        return project.lock(references=False), False  # raises the same where more is wrong


def _as_now(project: Project, before: Lock | None) -> Lock | None:
    """The lock of a project that has become a workspace's root, or is none any more, in the words that it has now."""
    members = project.manifest.members
    if before is None or bool(before.members) == bool(members):
        return before
    if before.members:
        return before.part(ROOT) if ROOT in before.members else before
    name = members.get(ROOT)
    return before if name is None or before.bases else before.with_named_base(name)


def _settled(
    project: Project, store: Store, conflict: Merge, *, offline: bool, now: datetime | None, listener: Listener
) -> Locked:
    """The lock out of two sides; ``changes`` are those to our side."""
    bases = conflict.known_bases(project_bases(project))
    before = replace(conflict.ours, packages=conflict.preferred())
    chain = None if offline else (lambda: open_chain(project))
    try:
        direct = conflict.direct(project, lambda package: not any(changed(package, project.root, store)))
        packages = conflict.chosen(project, bases, lambda package: _card_told(package, store, chain), direct)
    except NoSolutionError:
        after = _resolved(project, store, before, offline=offline, now=now, listener=listener)
    else:
        after = _assembled(
            project,
            store,
            chain=chain,
            bases=bases,
            direct={alias: package.name for alias, package in direct.items()},
            packages=packages,
            moment=conflict.moment(),
        )
    return _told(conflict.ours, after, listener)


def _card_told(package: LockedPackage, store: Store, chain: Callable[[], Chain] | None) -> Card | None:
    """The card of what a side of a conflict has locked; None where it can't be had."""
    try:
        return cards([package], store, chain)[package.key]
    except (NetworkError, NotFoundError, RegistryError):
        return None


def _told(before: Lock | None, after: Lock, listener: Listener) -> Locked:
    found = tuple(changes(before, after))
    for change in found:
        listener(change)
    return Locked(after, found)


def _resolved(
    project: Project,
    store: Store,
    before: Lock | None,
    *,
    update: Collection[str] | None = None,
    offline: bool,
    now: datetime | None,
    listener: Listener,
) -> Lock:
    """The lock out of what the registries and the direct sources have, ``before`` being preferred."""
    if offline:
        raise not_locked(project, [] if before is None else list(out_of_date(project, before, store)))
    check_bases(project)
    direct = _directs(project, before, update, store, listener)
    source = _Source(open_chain(project), project, direct)
    bases, moment = project_bases(project, before), moment_now(project, now)
    try:
        choices = choose(
            project,
            source,
            {alias: found.listing for alias, found in direct.items()},
            bases,
            before=before,
            update=update,
            moment=moment,
        )
    except NoSolutionError as error:
        error.cause = "\n".join([error.cause or "", *_said_of_sources(error.cause or "", direct)])
        raise
    packages = _pin(source, store, before, choices)
    after = _assembled(
        project,
        store,
        chain=lambda: source.chain,
        bases=bases,
        direct={alias: found.listing.name for alias, found in direct.items()},
        packages=packages,
        moment=moment,
    )
    for note in _preferred(project, source, choices):
        listener(note)
    return after


def moment_now(project: Project, now: datetime | None = None) -> str | None:
    """The moment that the project's ``exclude-newer`` means at ``now``; None if it has none."""
    cutoff = project.manifest.rules.exclude_newer
    return None if cutoff is None else moment_of(cutoff, now or datetime.now(UTC))


def _assembled(
    project: Project,
    store: Store,
    *,
    chain: Callable[[], Chain] | None,
    bases: Mapping[str | None, BaseIdentity | None],
    direct: Mapping[Alias, PackageName],
    packages: Mapping[str, LockedPackage],
    moment: str | None,
) -> Lock:
    after = Lock(
        base=bases.get(None),
        bases={name: base for name, base in bases.items() if name is not None and base is not None},
        adapters=_adapters(project, direct),
        compose=dict(project.manifest.compose),
        packages=packages,
        rules=project.manifest.rules,
        before=moment,
        members={path: LockedMember(base) for path, base in project.manifest.members.items()},
    )
    check_names(after)
    if after.compose:
        check_mixtures(after, store, chain)
    return after


def registries_of(project: Project) -> _Source:
    """Whom the resolver asks for a project without direct sources."""
    return _Source(open_chain(project), project, {})


class _Source:
    """The chain as the resolver sees it: a package's candidates, from where the manifest wants it from."""

    def __init__(self, chain: Chain, project: Project, direct: Mapping[Alias, Direct]) -> None:
        self.chain = chain
        self.rules = project.manifest.rules
        self.direct: dict[tuple[PackageName, str | None], Direct] = {}
        self.pins = registry_pins(project)
        self._meant: dict[tuple[PackageName, Channel], Digest] = {}
        for wanted in project.manifest.adapters:
            if not isinstance(wanted.requirement, Requirement):
                self.direct[direct[wanted.alias].listing.name, wanted.slot] = direct[wanted.alias]

    def candidates(self, name: PackageName, slot: str | None) -> Sequence[Listing]:
        if (name, slot) in self.direct:
            return [self.direct[name, slot].listing]
        return self.chain.find(name, self.pins.get(name)).listings

    def channel(self, name: PackageName, channel: Channel) -> Digest:
        if (name, channel) not in self._meant:
            found = self.chain.find(name, self.pins.get(name))
            self._meant[name, channel] = release_of(found.registry, name, channel, found.listings).manifest.digest
        return self._meant[name, channel]

    def pin(self, choice: Choice, batch: Batch) -> LockedPackage:
        """The lock's entry for a release, after its card and its index entry were found to agree."""
        listing = choice.listing
        direct = self.direct.get((listing.name, choice.slot))
        if direct is not None:
            return self.amended(direct.locked, choice)
        registry = self.chain.find(listing.name, self.pins.get(listing.name)).registry
        confirmed = registry.confirmed(listing)
        release = confirmed.release
        batch.put([confirmed.manifest_data], release.manifest)
        batch.put([confirmed.card_data], release.card)
        package = LockedPackage(
            name=listing.name,
            version=listing.version,
            registry=registry.name,
            manifest=release.manifest,
            card=release.card,
            files=release.files,
        )
        return self.amended(package, choice)

    def amended(self, package: LockedPackage, choice: Choice) -> LockedPackage:
        """The entry with the base and slot that it was chosen for, requiring what it does in this project."""
        requires = self.rules.amended(choice.listing.requires)
        return replace(package, requires=requires, base=choice.base, slot=choice.slot)

    def still(self, known: LockedPackage) -> bool:
        """Whether a locked package is still taken from where it was."""
        direct = self.direct.get((known.name, known.slot))
        if direct is not None or known.source is not None:
            return direct is not None and direct.source == known.source
        return self.chain.find(known.name, self.pins.get(known.name)).registry.name == known.registry


def _directs(
    project: Project, before: Lock | None, update: Collection[str] | None, store: Store, listener: Listener
) -> dict[Alias, Direct]:
    """What the direct sources hold, by alias.

    A commit that is locked is kept, unless its package may move, and not fetched again if the store knows its release.
    """
    kept: dict[Source, LockedPackage] = {}
    if before is not None and (update is None or update):
        for package in before.packages.values():
            if package.source is not None and (update is None or package.key not in update):
                kept[as_wanted(package.source)] = package
    found: dict[Alias, Direct] = {}
    names: dict[tuple[PackageName, str | None], Source] = {}
    for wanted in project.manifest.adapters:
        if isinstance(wanted.requirement, Requirement):
            continue
        before_it = kept.get(wanted.requirement)
        known = None if before_it is None else at_hand(before_it, store)
        source = wanted.requirement if before_it is None else before_it.source or wanted.requirement
        direct = known or take(source, project.root, store, listener)
        name = direct.listing.name
        if names.setdefault((name, wanted.slot), wanted.requirement) != wanted.requirement:
            raise UsageError(
                "sources-differ",
                f"{MANIFEST_FILE} takes {name} from {names[name, wanted.slot]} and from {wanted.requirement}",
                hint="take it from one of them, or give one of them a 'slot' of its own",
            )
        found[wanted.alias] = direct
    return found


def _said_of_sources(cause: str, direct: Mapping[Alias, Direct]) -> Iterator[str]:
    """Where the packages of direct sources that ``cause`` speaks of are from: the registries' releases don't count."""
    for found in direct.values():
        listing = found.listing
        if re.search(rf"\b{re.escape(listing.name)}(?![a-z0-9/._-]*[a-z0-9])", cause):
            yield f"{listing.name} {listing.version} is taken from {found.source}."


def _preferred(project: Project, source: _Source, choices: list[Choice]) -> Iterator[Note]:
    """Where a score counted before the version: which newer release was passed over."""
    chosen = {choice.key: choice.listing for choice in choices}
    for wanted in project.manifest.adapters:
        if wanted.prefer is None or not isinstance(wanted.requirement, Requirement) or wanted.requirement.channel:
            continue
        listing = chosen[package_key(wanted.requirement.name, wanted.base, wanted.slot)]
        newest = max(
            (entry for entry in source.candidates(listing.name, wanted.slot) if not entry.version.is_prerelease),
            key=lambda entry: entry.version,
            default=listing,
        )
        has, other = (next(iter(wanted.prefer.score.values(entry.metrics)), None) for entry in (listing, newest))
        if newest.version > listing.version and has is not None and has != other:
            told = "has no such score" if other is None else f"has {spell(other)}"
            yield Note(
                f"{wanted.alias}: {listing.name} {listing.version} is preferred for its {wanted.prefer.score} of "
                f"{spell(has)}; the newest, {newest.version}, {told}"
            )


def _adapters(project: Project, direct: Mapping[Alias, PackageName]) -> dict[Alias, LockedAdapter]:
    """What was asked for: of a direct source, the package that it holds."""
    out = {}
    for wanted in project.manifest.adapters:
        asked = wanted.requirement
        requirement = asked if isinstance(asked, Requirement) else Requirement(direct[wanted.alias])
        out[wanted.alias] = LockedAdapter(
            requirement, wanted.registry, wanted.base, wanted.slot, wanted.group, wanted.where, wanted.prefer
        )
    return out


def _pin(source: _Source, store: Store, before: Lock | None, choices: list[Choice]) -> dict[str, LockedPackage]:
    """Lock entries for the chosen releases; what was locked before is not fetched again."""
    packages: dict[str, LockedPackage] = {}
    new: list[Choice] = []
    for choice in choices:
        known = None if before is None else before.packages.get(choice.key)
        if known is not None and known.manifest == choice.listing.manifest and source.still(known):
            packages[choice.key] = source.amended(known, choice)
        else:
            new.append(choice)

    with store.batch() as batch:

        def pin(choice: Choice) -> None:
            packages[choice.key] = source.pin(choice, batch)

        in_parallel(pin, new, threads=connections(), first=limits.CONNECTIONS_FIRST)
    return dict(sorted(packages.items()))
