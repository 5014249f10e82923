"""One package inside a problem: its releases in order, which of them are candidates, which meet a constraint."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final

from packaging.specifiers import Specifier
from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.resolve.facts import Excluded
from adpm.resolve.problem import Locked, Prereleases

__all__ = ["Misfit", "Package", "members"]

Misfit = Callable[[BaseIdentity], str | None]

_LINEAR: Final = 8  # up to so many releases, asking about each is as quick as a search


def members(bits: int) -> list[int]:
    """The places in a set, oldest release first."""
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def _set(flags: Iterable[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)


class Package:
    """The releases of ``name``, sorted by version and then digest; sets of them are bits (see ``versions``).

    ``listings`` is None where no registry has the package. ``wanted``: the project's own requirements on it, which
    alone can admit a pre-release or a yanked release. ``misfit`` says why an adapter for a base does not fit the
    project's, or None; it is asked about as few releases as will do.
    """

    def __init__(
        self,
        name: PackageName,
        listings: Sequence[Listing] | None,
        *,
        wanted: Sequence[Requirement] = (),
        locked: Locked | None = None,
        prereleases: Prereleases = "all",
        misfit: Misfit | None = None,
    ) -> None:
        self.name = name
        self._misfit = misfit
        self.known = listings is not None
        self.releases = tuple(sorted(listings or (), key=lambda r: (r.version, r.manifest.digest)))
        self.versions = [release.version for release in self.releases]
        self.all = (1 << len(self.releases)) - 1
        self._plain = all(version.local is None for version in self.versions)
        self._met: dict[str, int] = {"": self.all}

        self._kept = _set(
            locked is not None
            and release.version == locked.version
            and locked.digest in {None, release.manifest.digest}
            for release in self.releases
        )
        preliminary = _set(version.is_prerelease for version in self.versions)
        self._finals = self.all & ~preliminary
        self.excluded = (*self._yanked(wanted), *self._preliminary(wanted, preliminary, prereleases))
        self.candidates = self.all
        for exclusion in self.excluded:
            self.candidates &= ~exclusion.releases

    def _yanked(self, wanted: Sequence[Requirement]) -> Iterable[Excluded]:
        yanked = _set(release.yanked is not None for release in self.releases) & ~self._kept
        if not yanked:
            return
        for requirement in wanted:
            if requirement.digest is not None or any(map(_pins, requirement.specifiers)):
                yanked &= ~self.meeting(requirement)
        for reason in sorted({self.releases[place].yanked or "" for place in members(yanked)}):
            releases = yanked & _set((release.yanked or "") == reason for release in self.releases)
            yield Excluded(self.name, releases, "yanked", reason)

    def _preliminary(self, wanted: Sequence[Requirement], preliminary: int, mode: Prereleases) -> Iterable[Excluded]:
        if mode == "all" or not preliminary or not self._finals:
            return
        for requirement in wanted:
            if any(specifier.prereleases for specifier in requirement.specifiers):
                return
            if requirement.digest is not None:
                preliminary &= ~self.meeting(requirement)
        if preliminary:
            yield Excluded(self.name, preliminary, "pre-release")

    def meeting(self, requirement: Requirement) -> int:
        """The releases that meet it: ``SpecifierSet.contains`` with pre-releases, or the one with the digest."""
        if requirement.digest is not None:
            return _set(release.manifest.digest == requirement.digest for release in self.releases)
        text = str(requirement.specifiers)
        found = self._met.get(text)
        if found is None:
            found = self.all
            for specifier in requirement.specifiers:
                found &= self._satisfying(specifier)
            self._met[text] = found
        return found

    def _satisfying(self, specifier: Specifier) -> int:
        """One specifier. In a sorted list without local versions the order operators split it once: search for that."""
        versions, operator = self.versions, specifier.operator
        if len(versions) > _LINEAR and self._plain:
            if operator in {">=", ">"}:
                split = bisect_left(versions, True, key=lambda v: specifier.contains(v, prereleases=True))
                return self.all >> split << split
            if operator in {"<=", "<"}:
                split = bisect_left(versions, True, key=lambda v: not specifier.contains(v, prereleases=True))
                return self.all & ((1 << split) - 1)
            if _pins(specifier):
                version = Version(specifier.version)
                start, end = bisect_left(versions, version), bisect_right(versions, version)
                return (1 << end) - (1 << start)
        return _set(specifier.contains(version, prereleases=True) for version in versions)

    def best(self, releases: int) -> int | None:
        """What is preferred among ``releases``: the locked one, then the newest final, then the newest."""
        chosen = (releases & self._kept) or (releases & self._finals) or releases
        return chosen.bit_length() - 1 if chosen else None

    def keeps(self, releases: int) -> bool:
        """Whether the locked release is among ``releases``."""
        return releases & self._kept != 0

    def alike(self, place: int) -> int:
        """The release and those next to it that require, word for word, what it does."""
        requires = self.releases[place].requires
        first = last = place
        while first and self.releases[first - 1].requires == requires:
            first -= 1
        while last + 1 < len(self.releases) and self.releases[last + 1].requires == requires:
            last += 1
        return (1 << last + 1) - (1 << first)

    def twins(self, place: int) -> tuple[Listing, ...]:
        """All releases of the same version, this one among them: more than one is a registry's conflict."""
        version = self.versions[place]
        return tuple(release for release in self.releases if release.version == version)

    def requires(self, place: int) -> dict[str, Requirement]:
        """What the release requires, by name; what it says of one package in several places is one requirement."""
        found: dict[str, Requirement] = {}
        for requirement in self.releases[place].requires:
            other = found.get(requirement.name)
            found[requirement.name] = requirement if other is None else _both(other, requirement)
        return found

    def fits(self, place: int) -> bool:
        return self._misfit is None or self._misfit(self.releases[place].base) is None

    @cached_property
    def misfits(self) -> tuple[Excluded, ...]:
        """Every release that does not fit the project's base, one fact for each reason."""
        reasons: dict[str, int] = {}
        for place, release in enumerate(self.releases):
            reason = None if self._misfit is None else self._misfit(release.base)
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) | 1 << place
        return tuple(Excluded(self.name, releases, "base", reason) for reason, releases in reasons.items())


def _pins(specifier: Specifier) -> bool:
    return specifier.operator == "==" and not specifier.version.endswith(".*")


def _both(one: Requirement, other: Requirement) -> Requirement:
    return Requirement(one.name, one.specifiers & other.specifiers, one.digest or other.digest)
