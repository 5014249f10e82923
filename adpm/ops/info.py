"""``adpm info``: a package's releases and the card of the one that a requirement would get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adpm.core.release import Card, Listing, Release
from adpm.core.requirement import Requirement
from adpm.errors import NotFoundError
from adpm.ops.channels import release_of
from adpm.ops.project import Project
from adpm.ops.registries import find_package

__all__ = ["Info", "info"]


@dataclass(frozen=True, slots=True)
class Info:
    """``listings``: all releases, newest first. ``card`` and ``release`` are those of ``shown``."""

    registry: str
    listings: tuple[Listing, ...]
    shown: Listing
    card: Card
    release: Release


def info(requirement: Requirement, project: Project | None, directory: Path, *, registry: str | None = None) -> Info:
    """Look up ``requirement``; of several releases that meet it the newest that is final and not yanked is shown.

    ``registry`` may be a path (relative to ``directory``) or a URL, and then needs no project. Raises ``NotFoundError``
    (``package-not-found``, ``version-not-found``), and of a channel what ``release_of`` does.
    """
    found = find_package(requirement.name, project, directory, registry)
    if requirement.channel is not None:
        target = release_of(found.registry, requirement.name, requirement.channel, found.listings)
        requirement = Requirement(requirement.name, digest=target.manifest.digest)
    meeting = [listing for listing in found.listings if _meets(listing, requirement)]
    if not meeting:
        versions = ", ".join(str(listing.version) for listing in reversed(found.listings))
        raise NotFoundError(
            "version-not-found", f"no release of {requirement.name} meets {requirement}", hint=f"there are: {versions}"
        )
    shown = max(meeting, key=lambda entry: (entry.yanked is None, not entry.version.is_prerelease, entry.version))
    confirmed = found.registry.confirmed(shown)
    newest_first = tuple(sorted(found.listings, key=lambda entry: entry.version, reverse=True))
    return Info(found.registry.name, newest_first, shown, confirmed.card, confirmed.release)


def _meets(listing: Listing, requirement: Requirement) -> bool:
    if requirement.digest is not None:
        return listing.manifest.digest == requirement.digest
    return requirement.specifiers.contains(listing.version, prereleases=True)
