"""Two locks into one: what a lock with conflict markers holds, and what git's merge driver is given.

What is preferred of each package follows from the three versions of the lock: what only one side changed is that
side's, what both changed alike is theirs together, and of two different releases the newer one. Then one release of
each package is chosen among those that either side had locked, with the resolver's own rules, the preferred ones
counting as locked. No registry is asked. Which side is "ours" makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE
from adpm.core.licenses import allowed
from adpm.core.lock import Lock, LockedAdapter, LockedPackage, package_key
from adpm.core.manifest import Manifest, Wanted
from adpm.core.names import Alias, Channel, Digest, PackageName
from adpm.core.release import Card, Listing
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import as_wanted
from adpm.errors import DocumentError, NoSolutionError, NotFoundError
from adpm.formats.conflict import split
from adpm.formats.lock import read_lock, write_lock
from adpm.ops.cards import card_at_hand
from adpm.ops.choose import Choice, choose, registry_pins
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["Merge", "merge_locks", "read_conflict"]

T = TypeVar("T")
Bases = Mapping[str | None, BaseIdentity | None]

_ANY_BASE: Final = BaseIdentity(None, None, None, None)  # what a lock holds was found to fit when it was made


@dataclass(frozen=True, slots=True)
class Merge:
    """The lock of each side, and the one that both began with, if that is known."""

    ours: Lock
    theirs: Lock
    base: Lock | None

    def preferred(self) -> dict[str, LockedPackage]:
        """What to keep of each package where the requirements allow it. The entries need not go together."""
        before = None if self.base is None else self.base.packages
        return _merged(before, self.ours.packages, self.theirs.packages, _newer)

    def moment(self) -> str | None:
        """The later of the moments that the sides' ``exclude-newer`` meant."""
        return max(filter(None, (self.ours.before, self.theirs.before)), default=None)

    def known_bases(self, bases: Bases) -> Bases:
        """``bases``, with what a side knows of those of which only the name is known: files need not lie here."""
        return {name: self._known_base(name, base) for name, base in bases.items()}

    def _known_base(self, name: str | None, base: BaseIdentity | None) -> BaseIdentity | None:
        if base is None or base.shape is not None:
            return base
        sides = [side for side in (_base(self.ours, name), _base(self.theirs, name)) if side is not None]
        return next((s for s in sides if (s.model, s.revision) == (base.model, base.revision)), base)

    def _asked(self, project: Project) -> dict[Alias, LockedAdapter]:
        """What was locked for each alias by a side that was asked for what the project asks now."""
        out = {**self.theirs.adapters, **self.ours.adapters}
        for wanted in project.manifest.adapters:
            other = self.theirs.adapters.get(wanted.alias)
            if other is not None and out[wanted.alias].requirement != wanted.requirement:
                out[wanted.alias] = other
        return out

    def direct(self, project: Project, same: Callable[[LockedPackage], bool]) -> dict[Alias, LockedPackage]:
        """By alias, what the sides have locked of the project's direct sources, if that is what is preferred.

        ``same`` says whether a directory still holds what was locked. Raises ``NoSolutionError`` as ``chosen`` does.
        """
        preferred = self.preferred()
        found: dict[Alias, LockedPackage] = {}
        for wanted in project.manifest.adapters:
            if isinstance(wanted.requirement, Requirement):
                continue
            for package in preferred.values():
                place = package.base, package.slot
                meant = package.source is not None and as_wanted(package.source) == wanted.requirement
                if meant and place == (wanted.base, wanted.slot) and same(package):
                    found[wanted.alias] = package
            if wanted.alias not in found:
                raise NoSolutionError("no-solution", f"what {wanted.requirement} holds is not in the lock")
        return found

    def chosen(
        self,
        project: Project,
        bases: Bases,
        card: Callable[[LockedPackage], Card | None],
        direct: Mapping[Alias, LockedPackage] = {},
    ) -> dict[str, LockedPackage]:
        """One release of each package that ``project`` needs, out of the two sides.

        A side counts only if it was locked with the project's rules, and for each base if it was locked for that; a
        package only from the registry that the manifest names for it, and if its license and its scores will do: those
        of what a side locked under the same policy and floors do, else ``card`` tells; None where it is not at hand.
        ``direct``: what is locked of the direct sources, see there. Raises ``NoSolutionError``: the sides alone have no
        answer, the registries and the direct sources may have one.
        """
        # What is held has been judged already.
        rules = replace(project.manifest.rules, licenses=None)
        adapters = tuple(replace(wanted, where=()) for wanted in project.manifest.adapters)
        lenient = replace(project, manifest=replace(project.manifest, rules=rules, adapters=adapters))
        preferred = self.preferred()
        before = replace(self.ours, adapters=self._asked(project), packages=preferred)
        pins, packages = registry_pins(project), {}
        for name, base in bases.items():
            held, unknown = _Held(), False
            for side in (self.ours, self.theirs):
                if _base(side, name) == base and not any(rules.differences(replace(side.rules, licenses=None))):
                    for package in side.packages.values():
                        if package.base == name and pins.get(package.name, package.registry) == package.registry:
                            will_do = _will_do(package, side, project, card)
                            unknown |= will_do is None
                            if will_do:
                                held.add(package)
            listings = {alias: _listing(package) for alias, package in direct.items()}
            for choice in choose(lenient, held, listings, {name: base}, before=before, update=None, moment=None):
                packages[choice.key] = held.entry(choice)
                if unknown and preferred.get(choice.key) != packages[choice.key]:
                    raise NoSolutionError("no-solution", "licenses and scores of some releases are not in the lock")
        return dict(sorted(packages.items()))


def _will_do(
    package: LockedPackage, side: Lock, project: Project, card: Callable[[LockedPackage], Card | None]
) -> bool | None:
    """Whether a release has a license that is allowed and the scores that are asked for; None where that is not known.

    What a side locked has what that side asked for, and a license that it allowed.
    """
    allow = project.manifest.rules.licenses
    had = {floor for adapter in side.adapters.values() if adapter.key == package.key for floor in adapter.where}
    floors = {
        floor
        for wanted in project.manifest.adapters
        if isinstance(wanted.requirement, Requirement)
        and package_key(wanted.requirement.name, wanted.base, wanted.slot) == package.key
        for floor in wanted.where
    }
    if floors <= had and (allow is None or (side.rules.licenses is not None and {*side.rules.licenses} <= {*allow})):
        return True
    told = card(package)
    if told is None:
        return None
    return (allow is None or allowed(told.license, allow)) and all(floor.holds(told.metrics) for floor in floors - had)


def _base(side: Lock, name: str | None) -> BaseIdentity | None:
    return side.base if name is None else side.bases.get(name)


class _Held:
    """The releases that the sides have locked for one base, as the resolver's source."""

    def __init__(self) -> None:
        self._packages: dict[tuple[PackageName, str | None], dict[Digest, LockedPackage]] = {}

    def add(self, package: LockedPackage) -> None:
        """Of two entries for one release the one with the greater name of its registry counts."""
        entries = self._packages.setdefault((package.name, package.slot), {})
        known = entries.get(package.manifest.digest, package)
        entries[package.manifest.digest] = max(known, package, key=_place)

    def entry(self, choice: Choice) -> LockedPackage:
        return self._packages[choice.listing.name, choice.slot][choice.listing.manifest.digest]

    def channel(self, name: PackageName, channel: Channel) -> Digest:
        raise NoSolutionError("no-solution", f"what {name}@{channel} means is not in the lock")

    def candidates(self, name: PackageName, slot: str | None) -> Sequence[Listing]:
        if (name, slot) not in self._packages:
            raise NotFoundError("package-not-found", f"neither side has locked {name}")
        return [_listing(entry) for entry in self._packages[name, slot].values()]


def _listing(entry: LockedPackage) -> Listing:
    return Listing(entry.name, entry.version, entry.manifest, entry.requires, _ANY_BASE)


def read_conflict(data: bytes) -> Merge | None:
    """The sides of a lock with git's conflict markers; None if it has none.

    Raises ``DocumentError`` (``lock-invalid``) if a side is no lock. An ancestor that is none counts as not known.
    """
    sides = split(data, source=LOCK_FILE, code="lock-invalid")
    if sides is None:
        return None
    ours, theirs = (
        read_lock(side, f"{LOCK_FILE} ({name})", references=False)
        for name, side in (("our side", sides.ours), ("their side", sides.theirs))
    )
    return Merge(ours, theirs, None if sides.base is None else _read_ancestor(sides.base))


def _read_ancestor(data: bytes) -> Lock | None:
    try:
        return read_lock(data, LOCK_FILE, references=False)
    except DocumentError:
        return None


def merge_locks(ancestor: bytes, ours: bytes, theirs: bytes, store: Store) -> bytes:
    """The lock in which the changes of both sides are together, as git's merge driver wants it.

    ``ancestor`` is empty where both sides added the file. All of the lock is merged, for the manifest is not at hand
    while git merges; of cards those in ``store`` count. Raises ``NoSolutionError`` (``merge-conflict``) where both
    sides changed the same thing, or need what is in neither; ``DocumentError`` for a side that is no lock.
    """
    merge = Merge(
        read_lock(ours, f"{LOCK_FILE} (our side)"),
        read_lock(theirs, f"{LOCK_FILE} (their side)"),
        read_lock(ancestor, f"{LOCK_FILE} (ancestor)") if ancestor.strip() else None,
    )
    clashes = list(_clashing_sources(merge))
    together = _declared(merge, clashes)
    if clashes:
        raise NoSolutionError(
            "merge-conflict",
            f"both sides of {LOCK_FILE} changed the same thing",
            cause="\n".join(clashes),
            hint="settle adapter.yaml, then run 'adpm lock'",
        )
    bases: dict[str | None, BaseIdentity | None] = {str(name): base for name, base in together.bases.items()}
    try:
        packages = merge.chosen(
            _project(together), bases or {None: together.base}, lambda package: card_at_hand(package, store)
        )
    except NoSolutionError as error:
        raise NoSolutionError(
            "merge-conflict",
            f"the releases that the two sides of {LOCK_FILE} have locked do not go together",
            cause=error.cause or error.what,
            hint="settle adapter.yaml, then run 'adpm lock', which asks the registries",
        ) from error
    data = write_lock(replace(together, packages=packages))
    read_lock(data, LOCK_FILE)  # a composition may use what the merge has left out
    return data


def _clashing_sources(merge: Merge) -> Iterator[str]:
    """Packages of direct sources of which each side has another state: neither is newer than the other."""
    for key, one in merge.ours.packages.items():
        other = merge.theirs.packages.get(key)
        old = None if merge.base is None else merge.base.packages.get(key)
        if other is not None and one != other and old not in (one, other) and (one.source or other.source):
            yield f"packages.{key}"


def _project(lock: Lock) -> Project:
    """A project that wants what ``lock`` says was wanted; what a direct source holds, by its package."""
    wanted = tuple(
        Wanted(alias, a.requirement, a.registry, a.base, a.slot, a.group, a.where, a.prefer)
        for alias, a in lock.adapters.items()
    )
    return Project(Path(), Manifest(adapters=wanted, compose=lock.compose, rules=lock.rules), b"")


def _declared(merge: Merge, clashes: list[str]) -> Lock:
    """Everything but the packages, merged by alias and name; what can't be merged is told in ``clashes``."""
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(Lock) if field.name != "packages"):
        ours, theirs = _parts(getattr(merge.ours, name)), _parts(getattr(merge.theirs, name))
        before = None if merge.base is None else _parts(getattr(merge.base, name))
        merged = _merged(before, ours, theirs, max if name == "before" else _Clash)
        clashes += [f"{name}.{key}".rstrip(".") for key, value in merged.items() if isinstance(value, _Clash)]
        if isinstance(getattr(merge.ours, name), Rules):
            values[name] = Rules(**merged)
        else:
            values[name] = merged if isinstance(getattr(merge.ours, name), Mapping) else merged.get("")
    return replace(merge.ours, **values)


def _parts(value: object) -> Mapping[Any, Any]:
    """What is merged by itself: each entry of a mapping, each of the rules, anything else as a whole."""
    if isinstance(value, Rules):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value if isinstance(value, Mapping) else {"": value}


@dataclass(frozen=True, slots=True)
class _Clash:
    """Two values that each differ from what was before."""

    ours: object
    theirs: object


def _merged(before: Mapping[Any, T] | None, ours: Mapping[Any, T], theirs: Mapping[Any, T], both: Any) -> dict[Any, T]:
    """The entries of two mappings by key; ``both`` decides between two entries that were each changed or added.

    What one side took away and the other changed stays; without a ``before`` nothing was taken away.
    """
    out = {}
    for key in sorted({*ours, *theirs}):
        one, other, old = ours.get(key), theirs.get(key), None if before is None else before.get(key)
        if one == other:
            value = one
        elif one == old:
            value = other
        elif other == old:
            value = one
        elif one is None or other is None:
            value = other if one is None else one
        else:
            value = both(one, other)
        if value is not None:
            out[key] = value
    return out


def _newer(one: LockedPackage, other: LockedPackage) -> LockedPackage:
    return max(one, other, key=_place)


def _place(package: LockedPackage) -> tuple[Version, str, str]:
    return package.version, package.manifest.digest, package.origin
