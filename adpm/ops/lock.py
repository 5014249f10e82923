"""``adpm lock``: resolve what the manifest wants into one consistent, fully pinned set.

The project's files are not written here. Release manifests and cards, which are read to confirm what an index said, go
into the store: the install that follows need not fetch them again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adpm import limits
from adpm.core.events import Changed, Listener, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.moment import moment_of
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import CompositionError, LockOutdatedError, UsageError
from adpm.ops.base import project_bases
from adpm.ops.changes import changes
from adpm.ops.choose import Choice, choose
from adpm.ops.project import Project, differences
from adpm.ops.registries import open_chain
from adpm.registry.chain import Chain
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
    update: Collection[str] | None = None,
    offline: bool = False,
    now: datetime | None = None,
    listener: Listener = ignore,
) -> Locked:
    """The lock that belongs to ``project``.

    A lock that already belongs to the manifest is kept without asking a registry. ``update``: the keys of the packages that
    may move to newer releases; an empty collection: all of them; None: only what must. An ``exclude-newer`` that is an
    age counts back from ``now`` (None: the clock), in every resolution anew.
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
    source = _Source(open_chain(project), project)
    bases = project_bases(project)
    rules = project.manifest.rules
    moment = None if rules.exclude_newer is None else moment_of(rules.exclude_newer, now or datetime.now(UTC))
    choices = choose(project, source, bases, before=before, update=update, moment=moment)
    after = Lock(
        base=bases.get(None),
        bases={name: base for name, base in bases.items() if name is not None and base is not None},
        adapters={w.alias: LockedAdapter(w.requirement, w.registry, w.base, w.slot) for w in project.manifest.adapters},
        compose=dict(project.manifest.compose),
        packages=_pin(source, store, before, choices),
        rules=rules,
        before=moment,
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
        self.rules = project.manifest.rules
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

    def pin(self, choice: Choice, batch: Batch) -> LockedPackage:
        """The lock's entry for a release, after its card and its index entry were found to agree."""
        listing = choice.listing
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
            requires=self.rules.amended(listing.requires),
            base=choice.base,
            slot=choice.slot,
        )


def _pin(source: _Source, store: Store, before: Lock | None, choices: list[Choice]) -> dict[str, LockedPackage]:
    """Lock entries for the chosen releases; what was locked before is not fetched again."""
    packages: dict[str, LockedPackage] = {}
    new: list[Choice] = []
    for choice in choices:
        known = None if before is None else before.packages.get(choice.key)
        if known is not None and known.manifest == choice.listing.manifest and _same_registry(source, known):
            packages[choice.key] = replace(known, requires=source.rules.amended(choice.listing.requires))
        else:
            new.append(choice)

    with store.batch() as batch:

        def pin(choice: Choice) -> None:
            packages[choice.key] = source.pin(choice, batch)

        in_parallel(pin, new, threads=limits.CONNECTIONS)
    return dict(sorted(packages.items()))


def _same_registry(source: _Source, known: LockedPackage) -> bool:
    return source.chain.find(known.name, source.pins.get(known.name)).registry.name == known.registry


def _check_compositions(lock: Lock) -> None:
    for name, composition in lock.compose.items():
        unknown = lock.unknown(composition)
        if unknown is not None:
            known = [name for base in lock.bases or (None,) for name, _ in lock.names(base)]
            apart = f"; only adapters for one base can act together: {', '.join(lock.bases)}" if lock.bases else ""
            raise CompositionError(
                "composition-unknown-name",
                f"compose.{name} uses {unknown!r}, which is not locked{' for that base' if lock.bases else ''}",
                cause=f"{name}: {composition}",
                hint=f"names that can be used: {', '.join(dict.fromkeys(known)) or 'none'}{apart}",
            )
