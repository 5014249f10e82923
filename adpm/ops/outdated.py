"""``adpm outdated``: which locked packages have newer releases, and what holds them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from packaging.version import Version

from adpm import limits
from adpm.core.lock import Lock, LockedPackage
from adpm.core.names import Alias
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.core.workspace import file_of, unqualified
from adpm.ops.base import project_bases
from adpm.ops.choose import Candidates, node, questions
from adpm.ops.lock import moment_now, registries_of
from adpm.ops.project import Project
from adpm.resolve.catalog import Catalog
from adpm.resolve.fetch import Fetcher
from adpm.resolve.package import Package, members

__all__ = ["Outdated", "outdated"]


_RULES: Final = {
    "base": "does not fit the base",
    "pre-release": "is a pre-release",
    "yanked": "was yanked",
    "newer": "was not published before the moment of exclude-newer",
    "undated": "has no known time for exclude-newer",
    "license": "is not under a license that is allowed",
    "score": "does not reach the floor",
}


@dataclass(frozen=True, slots=True)
class Outdated:
    """A locked package that is not the newest there is, or not what its channel means, or that was yanked.

    ``allowed``: the newest release that every requirement of the manifest and of the locked releases admits, and the
    base; the locked one if none is newer, and none is what its channel means. ``newest``: the newest of all that is
    neither yanked nor, where there are others, a pre-release; None where no registry lists any. ``held_by``: why
    ``newest`` is not allowed. ``yanked``: the reason, possibly empty; None if the locked release was not yanked.
    ``listed``: the registry still lists it.
    """

    package: LockedPackage
    aliases: tuple[Alias, ...]
    allowed: Version
    newest: Version | None
    held_by: tuple[str, ...]
    yanked: str | None
    listed: bool


def outdated(project: Project, lock: Lock) -> tuple[Outdated, ...]:
    """What could move, by package. Asks for the index of every package from a registry, and for nothing else."""
    found = []
    chosen = tuple(w for w in project.manifest.adapters if isinstance(w.requirement, Requirement))
    project = replace(project, manifest=replace(project.manifest, adapters=chosen))  # a direct source has no index
    source, moment = registries_of(project), moment_now(project)
    for base, asked, slotted in questions(project, source, {}, project_bases(project), moment=moment):
        packages = [package for package in lock.packages.values() if package.base == base and package.source is None]
        names = {package.key: node(package.name, package.slot) for package in packages}
        with Fetcher(slotted, limits.PREFETCH_THREADS) as fetcher:
            catalog = Catalog(asked, fetcher)
            catalog.ask(names.values())
            found += [_judged(lock, package, catalog[names[package.key]], source) for package in packages]
    return tuple(entry for entry in found if entry is not None)


def _judged(lock: Lock, locked: LockedPackage, package: Package, source: Candidates) -> Outdated | None:
    needs = list(_needs(lock, locked, source))
    fitting = package.candidates
    for _, requirement in needs:
        fitting &= package.meeting(requirement)
    best = _best(package, [place for place in members(fitting) if package.fits(place)])
    newest = _best(package, [place for place in members(package.all) if package.releases[place].yanked is None])
    mine = next((release for release in package.releases if release.manifest == locked.manifest), None)
    follows = any(a.requirement.channel is not None for a in lock.adapters.values() if a.key == locked.key)
    if best is None:
        allowed = locked.version
    else:  # a channel may move back
        allowed = package.versions[best] if follows else max(locked.version, package.versions[best])
    yanked = None if mine is None else mine.yanked
    behind = newest is not None and package.versions[newest] > locked.version
    if not behind and allowed == locked.version and yanked is None and mine is not None:
        return None
    held = () if newest is None or package.versions[newest] <= allowed else _held(package, newest, needs)
    return Outdated(
        package=locked,
        aliases=tuple(alias for alias, adapter in lock.adapters.items() if adapter.key == locked.key),
        allowed=allowed,
        newest=None if newest is None else package.versions[newest],
        held_by=tuple(held),
        yanked=yanked,
        listed=mine is not None,
    )


def _needs(lock: Lock, locked: LockedPackage, source: Candidates) -> Iterator[tuple[str, Requirement]]:
    """Who requires what of a package: each line of the manifest, with what its channel means, each locked release."""
    for alias, adapter in lock.adapters.items():
        if adapter.key == locked.key:
            asked = adapter.requirement
            if asked.channel is not None:
                meant = Requirement(asked.name, digest=source.channel(asked.name, asked.channel))
            else:
                meant = asked
            member, own = unqualified(alias)
            yield f"{file_of(member)}: {own}: {asked}", meant
    for package in lock.packages.values():
        for requirement in package.requires:
            if requirement.name == locked.name and lock.required(package, requirement).key == locked.key:
                yield f"{package.name} {package.version} requires {requirement}", requirement


def _best(package: Package, places: list[int]) -> int | None:
    """The newest final release, else the newest."""
    return max(places, key=lambda place: (not package.versions[place].is_prerelease, place), default=None)


def _held(package: Package, place: int, needs: list[tuple[str, Requirement]]) -> Iterator[str]:
    yield from (who for who, requirement in needs if not package.meeting(requirement) >> place & 1)
    release: Listing = package.releases[place]
    for exclusion in (*package.excluded, *package.misfits):
        if exclusion.releases >> place & 1:
            detail = f": {exclusion.detail}" if exclusion.detail else ""
            yield f"{release.name} {release.version} {_RULES[exclusion.rule]}{detail}"
