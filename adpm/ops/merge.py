"""Two locks into one: what a lock with conflict markers holds, and what git's merge driver is given.

What is preferred of each package follows from the three versions of the lock: what only one side changed is that
side's, what both changed alike is theirs together, and of two different releases the newer one. Then one release of
each package is chosen among those that either side had locked, with the resolver's own rules, the preferred ones
counting as locked. No registry is asked. Which side is "ours" makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Final, TypeVar

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE
from adpm.core.lock import Lock, LockedPackage
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import DocumentError, NoSolutionError, NotFoundError
from adpm.formats.conflict import split
from adpm.formats.lock import read_lock, write_lock
from adpm.resolve import problem
from adpm.resolve.solve import resolve

__all__ = ["Merge", "merge_locks", "read_conflict"]

T = TypeVar("T")

_ANY_BASE: Final = BaseIdentity(None, None, None, None)  # what a lock holds was found to fit when it was made


@dataclass(frozen=True, slots=True)
class Merge:
    """The lock of each side, and the one that both began with, if that is known."""

    ours: Lock
    theirs: Lock
    base: Lock | None

    def preferred(self) -> dict[PackageName, LockedPackage]:
        """What to keep of each package where the requirements allow it. The entries need not go together."""
        before = None if self.base is None else self.base.packages
        return _merged(before, self.ours.packages, self.theirs.packages, _newer)

    def known_base(self, base: BaseIdentity | None) -> BaseIdentity | None:
        """``base``, or what a side knows of it where the project names it only: its files need not lie here."""
        if base is None or base.shape is not None:
            return base
        sides = [side for side in (self.ours.base, self.theirs.base) if side is not None]
        return next((s for s in sides if (s.model, s.revision) == (base.model, base.revision)), base)

    def chosen(
        self, wanted: Sequence[problem.Wanted], base: BaseIdentity | None, pins: Mapping[PackageName, str]
    ) -> dict[PackageName, LockedPackage]:
        """One release of each package that ``wanted`` needs, out of the two sides; the answer is ``wanted``'s alone.

        A side counts only if it was locked for ``base``, and a package only from the registry that ``pins`` names for
        it. Raises ``NoSolutionError``: the sides alone have no answer, the registries may have one.
        """
        preferred = self.preferred()
        held: dict[PackageName, dict[str, LockedPackage]] = {}
        sides = [side.packages.values() for side in (self.ours, self.theirs) if side.base == base]
        for package in sorted(chain.from_iterable(sides), key=_place):
            if pins.get(package.name, package.registry) == package.registry:
                held.setdefault(package.name, {}).setdefault(package.manifest.digest, package)
        locked = {name: problem.Locked(entry.version, entry.manifest.digest) for name, entry in preferred.items()}
        answer = resolve(problem.Problem(tuple(wanted), None, locked), _Held(held), threads=1)
        return {name: held[name][listing.manifest.digest] for name, listing in answer.chosen.items()}


class _Held:
    """The releases that the sides have locked, as the resolver's source."""

    def __init__(self, packages: Mapping[PackageName, Mapping[str, LockedPackage]]) -> None:
        self._packages = packages

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        if name not in self._packages:
            raise NotFoundError("package-not-found", f"neither side has locked {name}")
        return [
            Listing(name, entry.version, entry.manifest, entry.requires, _ANY_BASE)
            for entry in self._packages[name].values()
        ]


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


def merge_locks(ancestor: bytes, ours: bytes, theirs: bytes) -> bytes:
    """The lock in which the changes of both sides are together, as git's merge driver wants it.

    ``ancestor`` is empty where both sides added the file. All of the lock is merged, for the manifest is not at hand
    while git merges. Raises ``NoSolutionError`` (``merge-conflict``) where both sides changed the same thing, or need
    what is in neither; ``DocumentError`` for a side that is no lock.
    """
    merge = Merge(
        read_lock(ours, f"{LOCK_FILE} (our side)"),
        read_lock(theirs, f"{LOCK_FILE} (their side)"),
        read_lock(ancestor, f"{LOCK_FILE} (ancestor)") if ancestor.strip() else None,
    )
    clashes: list[str] = []
    together = _declared(merge, clashes)
    if clashes:
        raise NoSolutionError(
            "merge-conflict",
            f"both sides of {LOCK_FILE} changed the same thing",
            cause="\n".join(clashes),
            hint="settle adapter.yaml, then run 'adpm lock'",
        )
    wanted = [
        problem.Wanted(adapter.requirement, LOCK_FILE, f"{alias}: {adapter.requirement}")
        for alias, adapter in together.adapters.items()
    ]
    pins = {a.requirement.name: a.registry for a in together.adapters.values() if a.registry is not None}
    try:
        packages = merge.chosen(wanted, together.base, pins)
    except NoSolutionError as error:
        raise NoSolutionError(
            "merge-conflict",
            f"the releases that the two sides of {LOCK_FILE} have locked do not go together",
            cause=error.cause,
            hint="settle adapter.yaml, then run 'adpm lock', which asks the registries",
        ) from error
    data = write_lock(replace(together, packages=packages))
    read_lock(data, LOCK_FILE)  # a composition may use what the merge has left out
    return data


def _declared(merge: Merge, clashes: list[str]) -> Lock:
    """Everything but the packages, merged by alias and name; what can't be merged is told in ``clashes``."""
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(Lock) if field.name != "packages"):
        ours, theirs = getattr(merge.ours, name), getattr(merge.theirs, name)
        before = None if merge.base is None else getattr(merge.base, name)
        whole = not isinstance(ours, Mapping)
        merged = _merged(
            {"": before} if whole else before,
            {"": ours} if whole else ours,
            {"": theirs} if whole else theirs,
            _Clash,
        )
        clashes += [f"{name}.{key}".rstrip(".") for key, value in merged.items() if isinstance(value, _Clash)]
        values[name] = merged.get("") if whole else merged
    return replace(merge.ours, **values)


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
    return package.version, package.manifest.digest, package.registry
