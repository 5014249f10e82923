"""One package inside a problem: its releases in order, which of them are candidates, which meet a constraint."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.licenses import allowed
from adpm.core.metrics import Floor, Preference, spell
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.resolve.facts import Excluded
from adpm.resolve.problem import Locked, Prereleases, Wanted

__all__ = ["Amendments", "Misfit", "Package", "Parsed", "members"]

Parsed = dict[str, list[tuple[Specifier, Version]]]
Misfit = Callable[[BaseIdentity], str | None]
Amendments = Mapping[str, Wanted | None]

_LINEAR: Final = 8  # up to so many releases, asking about each is as quick as a search


def members(bits: int) -> list[int]:
    """The places in a set, oldest release first."""
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def _set(flags: Iterable[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)


class Package:
    """The releases of ``name``, sorted by version and then digest; sets of them are bits (see ``versions``).

    ``listings`` is None where no registry has the package; ``near``: names that may have been meant then. ``wanted``:
    the project's own requirements on it, which alone can admit a pre-release or a yanked release. ``misfit`` says why
    an adapter for a base does not fit the project's, or None; it is asked about as few releases as will do.
    ``specifiers`` is shared by the packages of a problem: most constraints say the same, and parsing one takes as long
    as asking it about ten releases. ``amendments``: for some packages what stands in for all that releases require of
    them; None: nothing does. ``before``: the moment before which a candidate was
    published; ``exclude_undated``: one without a time is none then. ``lowest``: the oldest release is preferred.
    ``licenses``, ``floors``, ``prefer``: see ``Problem`` and ``Wanted``.
    """

    def __init__(
        self,
        name: PackageName,
        listings: Sequence[Listing] | None,
        *,
        near: Sequence[str] = (),
        wanted: Sequence[Requirement] = (),
        locked: Locked | None = None,
        prereleases: Prereleases = "all",
        misfit: Misfit | None = None,
        specifiers: Parsed | None = None,
        amendments: Amendments | None = None,
        before: str | None = None,
        exclude_undated: bool = True,
        lowest: bool = False,
        licenses: Collection[str] | None = None,
        floors: Sequence[Floor] = (),
        prefer: Preference | None = None,
    ) -> None:
        self.name = name
        self.known = listings is not None
        self.near = near
        self.releases = _in_order(listings or ())
        self.versions = [release.version for release in self.releases]
        self.all = (1 << len(self.releases)) - 1
        self._misfit = misfit
        self._amendments = amendments or {}
        self._lowest = lowest
        self._specifiers = {} if specifiers is None else specifiers
        self._alike: dict[int, int] = {}
        self._met: dict[str, int] = {"": self.all}

        self._kept = preliminary = yanked = 0
        for place, release in enumerate(self.releases):
            if release.version.is_prerelease:
                preliminary |= 1 << place
            if locked is not None and release.version == locked.version:
                self._kept |= (locked.digest in {None, release.manifest.digest}) << place
            if release.yanked is not None:
                yanked |= 1 << place
        self._finals = self.all & ~preliminary
        self.candidates = self.all
        self.excluded: tuple[Excluded, ...] = ()
        self._ranks = () if prefer is None else self._ranked(prefer)
        if yanked or (preliminary and prereleases != "all") or before is not None or licenses is not None or floors:
            self.excluded = (
                *self._yanked(wanted, yanked & ~self._kept),
                *self._preliminary(wanted, preliminary if prereleases != "all" and self._finals else 0),
                *(() if before is None else self._newer(wanted, before, undated=exclude_undated)),
                *(() if licenses is None else self._unlicensed(licenses)),
                *self._too_low(floors),
            )
            for exclusion in self.excluded:
                self.candidates &= ~exclusion.releases

    def _yanked(self, wanted: Sequence[Requirement], yanked: int) -> Iterable[Excluded]:
        for requirement in wanted:
            if requirement.digest is not None or any(map(_pins, requirement.specifiers)):
                yanked &= ~self.meeting(requirement)
        reasons: dict[str, int] = {}
        for place in members(yanked):
            reason = self.releases[place].yanked or ""
            reasons[reason] = reasons.get(reason, 0) | 1 << place
        return (Excluded(self.name, releases, "yanked", reason) for reason, releases in reasons.items())

    def _preliminary(self, wanted: Sequence[Requirement], preliminary: int) -> Iterable[Excluded]:
        for requirement in wanted:
            if any(specifier.prereleases for specifier in requirement.specifiers):
                return
            if requirement.digest is not None:
                preliminary &= ~self.meeting(requirement)
        if preliminary:
            yield Excluded(self.name, preliminary, "pre-release")

    def _newer(self, wanted: Sequence[Requirement], before: str, *, undated: bool) -> Iterable[Excluded]:
        named = 0
        for requirement in wanted:
            if requirement.digest is not None:
                named |= self.meeting(requirement)
        published = [release.published for release in self.releases]
        newer = _set(time is not None and time >= before for time in published) & ~named
        unknown = _set(time is None for time in published) & ~named if undated else 0
        if newer:
            yield Excluded(self.name, newer, "newer", before)
        if unknown:
            yield Excluded(self.name, unknown, "undated", before)

    def _unlicensed(self, licenses: Collection[str]) -> Iterable[Excluded]:
        refused: dict[str | None, int] = {}
        judged: dict[str | None, bool] = {}
        for place, release in enumerate(self.releases):
            if release.license not in judged:
                judged[release.license] = allowed(release.license, licenses)
            if not judged[release.license]:
                refused[release.license] = refused.get(release.license, 0) | 1 << place
        return (Excluded(self.name, releases, "license", stated or "") for stated, releases in refused.items())

    def _too_low(self, floors: Iterable[Floor]) -> Iterable[Excluded]:
        for floor in floors:
            low = _set(not floor.holds(release.metrics) for release in self.releases)
            if low:
                values = [value for place in members(low) for value in floor.score.values(self.releases[place].metrics)]
                nearest = min(values, key=lambda value: (abs(value - floor.bound), value), default=None)
                told = "no card states such a score" if nearest is None else f"the nearest is {spell(nearest)}"
                yield Excluded(self.name, low, "score", f"{floor} ({told})")

    def _ranked(self, prefer: Preference) -> tuple[int, ...]:
        """The releases by score, best first, those with equal ones together."""
        found: dict[float, int] = {}
        for place, release in enumerate(self.releases):
            rank = prefer.rank(release.metrics)
            found[rank] = found.get(rank, 0) | 1 << place
        return tuple(releases for _, releases in sorted(found.items(), reverse=True))

    def meeting(self, requirement: Requirement) -> int:
        """The releases that meet it: ``SpecifierSet.contains`` with pre-releases, or the one with the digest."""
        if requirement.digest is not None:
            return _set(release.manifest.digest == requirement.digest for release in self.releases)
        text = str(requirement.specifiers)
        found = self._met.get(text)
        if found is None:
            found = self.all
            for specifier, bound in self._parsed(text, requirement.specifiers):
                found &= self._satisfying(specifier, bound)
            self._met[text] = found
        return found

    def _parsed(self, text: str, specifiers: SpecifierSet) -> list[tuple[Specifier, Version]]:
        parsed = self._specifiers.get(text)
        if parsed is None:
            parsed = [(specifier, Version(specifier.version.removesuffix(".*"))) for specifier in specifiers]
            self._specifiers[text] = parsed
        return parsed

    def _satisfying(self, specifier: Specifier, bound: Version) -> int:
        """One specifier. In a sorted list without local versions the order operators split it once: search for that.

        ``>1.0`` leaves out the post-releases of 1.0, ``<1.0`` its pre-releases: they lie next to the bound.
        """
        versions, operator = self.versions, specifier.operator
        if len(versions) <= _LINEAR or not self._plain or specifier.version.endswith(".*"):
            return _set(specifier.contains(version, prereleases=True) for version in versions)
        if operator in {">=", ">"}:
            split = bisect_left(versions, bound)
            while split < len(versions) and not specifier.contains(versions[split], prereleases=True):
                split += 1
            return self.all >> split << split
        if operator in {"<=", "<"}:
            split = bisect_right(versions, bound)
            while split and not specifier.contains(versions[split - 1], prereleases=True):
                split -= 1
            return (1 << split) - 1
        if operator in {"==", "!="}:
            equal = (1 << bisect_right(versions, bound)) - (1 << bisect_left(versions, bound))
            return equal if operator == "==" else self.all & ~equal
        return _set(specifier.contains(version, prereleases=True) for version in versions)

    @cached_property
    def _plain(self) -> bool:
        return all(version.local is None for version in self.versions)

    def best(self, releases: int) -> int | None:
        """What is preferred among ``releases``: the locked one, then finals, of these those with the best score.

        Of several the newest, or oldest.
        """
        chosen = releases & self._kept
        if not chosen:
            chosen = (releases & self._finals) or releases
            if self._ranks:
                chosen = next((found for ranked in self._ranks if (found := chosen & ranked)), chosen)
        if self._lowest:
            chosen &= -chosen
        return chosen.bit_length() - 1 if chosen else None

    @property
    def kept(self) -> int:
        """The locked release, or all of its version where the lock names no digest."""
        return self._kept

    def keeps(self, releases: int) -> bool:
        """Whether the locked release is among ``releases``."""
        return releases & self._kept != 0

    def alike(self, place: int) -> int:
        """The release and those next to it that require, word for word, what it does."""
        found = self._alike.get(place)
        if found is None:
            requires = self.releases[place].requires
            first = last = place
            while first and _same(self.releases[first - 1].requires, requires):
                first -= 1
            while last + 1 < len(self.releases) and _same(self.releases[last + 1].requires, requires):
                last += 1
            found = (1 << last + 1) - (1 << first)
            self._alike.update(dict.fromkeys(range(first, last + 1), found))
        return found

    def twins(self, place: int) -> tuple[Listing, ...]:
        """All releases of the same version, this one among them: more than one is a registry's conflict."""
        version = self.versions[place]
        return tuple(release for release in self.releases if release.version == version)

    def requires(self, place: int) -> dict[str, Requirement]:
        """What the release requires, as the project amends it, by name.

        What it says of one package in several places is one requirement.
        """
        found: dict[str, Requirement] = {}
        for requirement in self.releases[place].requires:
            other = found.get(requirement.name)
            found[requirement.name] = requirement if other is None else _both(other, requirement)
        for name in found.keys() & self._amendments.keys() if self._amendments else ():
            amendment = self._amendments[name]
            if amendment is None:
                del found[name]
            else:
                found[name] = amendment.requirement
        return found

    def amendment(self, name: str) -> Wanted | None:
        """The project's line that stands in for what this package's releases require of ``name``."""
        return self._amendments.get(name)

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


def _in_order(listings: Sequence[Listing]) -> tuple[Listing, ...]:
    """By version, then digest. What an index lists is mostly in order already, which is quick to see."""
    if all(one.version < other.version for one, other in pairwise(listings)):
        return tuple(listings)
    return tuple(sorted(listings, key=lambda release: (release.version, release.manifest.digest)))


def _pins(specifier: Specifier) -> bool:
    return specifier.operator == "==" and not specifier.version.endswith(".*")


def _same(one: Sequence[Requirement], other: Sequence[Requirement]) -> bool:
    """Whether they say the same word for word; comparing specifier sets as values takes ten times as long."""
    return one is other or (
        len(one) == len(other)
        and all(
            a.name == b.name and a.digest == b.digest and str(a.specifiers) == str(b.specifiers)
            for a, b in zip(one, other, strict=True)
        )
    )


def _both(one: Requirement, other: Requirement) -> Requirement:
    return Requirement(one.name, one.specifiers & other.specifiers, one.digest or other.digest)
