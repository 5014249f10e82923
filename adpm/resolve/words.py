"""Sets of releases, requirements and facts in words."""

from __future__ import annotations

from adpm.core.requirement import Requirement
from adpm.resolve.catalog import Packages
from adpm.resolve.facts import Excluded, Unmet
from adpm.resolve.package import Package, members
from adpm.resolve.problem import Wanted
from adpm.resolve.proof import Claim, Depends, Nothing, Why

__all__ = ["Words"]

_PIECES = 4  # a set is told in so many pieces at most


def _pieces(package: Package, releases: int) -> list[str]:
    """The set as ranges over what is listed; releases that are no candidates anyway do not split a range."""
    listed = members(package.candidates if releases & package.candidates else package.all)
    inside = [bool(releases >> place & 1) for place in listed]
    if all(inside):
        return []
    pieces = []
    start = 0
    while start < len(listed):
        end = start
        while end < len(listed) and inside[end] == inside[start]:
            end += 1
        if inside[start]:
            pieces.append(_range(package, listed, start, end - 1))
        start = end
    return pieces


def _range(package: Package, listed: list[int], first: int, last: int) -> str:
    oldest, newest = package.versions[listed[first]], package.versions[listed[last]]
    if first == last:
        return str(oldest)
    if first == 0:
        return f"<={newest}"
    return f">={oldest}" if last == len(listed) - 1 else f">={oldest},<={newest}"


def _either(pieces: list[str]) -> str:
    if len(pieces) > _PIECES:
        pieces = [*pieces[: _PIECES - 1], f"{len(pieces) - _PIECES + 1} other ranges"]
    return ", ".join(pieces[:-1]) + (" or " if len(pieces) > 1 else "") + pieces[-1]


def _licensed(stated: str) -> str:
    return f"is licensed under {stated}" if stated else "states no license"


class Words:
    """Sentences about one problem's packages."""

    def __init__(self, packages: Packages) -> None:
        self._packages = packages

    def those(self, name: str, releases: int) -> str:
        """A set as what acts: ``a 1.0``, ``a >=1.2,<=1.4``, ``every version of a``."""
        pieces = _pieces(self._packages[name], releases)
        return f"{name} {_either(pieces)}" if pieces else f"every version of {name}"

    def one_of(self, name: str, releases: int) -> str:
        """A set as what is required: ``a 1.0``, ``a >=1.2,<=1.4``, and ``a`` where any version will do."""
        pieces = _pieces(self._packages[name], releases)
        return f"{name} {_either(pieces)}" if pieces else name

    def why(self, why: Why) -> str:
        """A fact as a clause that can follow 'because'."""
        if isinstance(why, Wanted):
            return f"your project requires {self.wanted(why)}"
        those = self.those(why.name, why.releases)
        if isinstance(why, Depends):
            return f"{those} requires {self._object(why)}"
        if isinstance(why, Unmet):
            return f"{those} requires {self._unmet(why)} ({self._lack(why.requirement)})"
        if isinstance(why, Nothing):
            return f"{those} can't be used"
        return self._exclusion(why, those)

    def wanted(self, wanted: Wanted) -> str:
        return f"{wanted.requirement} ({wanted.where})"

    def alone(self, wanted: Wanted) -> str:
        """A line of the project that nothing meets, as a sentence."""
        return f"Your project requires {self.wanted(wanted)}, but {self._lack(wanted.requirement)}."

    def claim(self, claim: Claim) -> str:
        """What a step concludes."""
        chosen = [self.those(name, term.releases) for name, term in claim.items() if term.positive]
        needed = [self.one_of(name, term.releases) for name, term in claim.items() if not term.positive]
        if not chosen and not needed:
            return "there is no solution"
        if not needed:
            return self._unusable([(name, term.releases) for name, term in claim.items()])
        return f"{' with '.join(chosen) or 'your project'} needs {' or '.join(needed)}"

    def _unusable(self, sets: list[tuple[str, int]]) -> str:
        (name, releases), *others = sets
        pieces = _pieces(self._packages[name], releases)
        subject = f"{name} {_either(pieces)} can't" if pieces else f"no version of {name} can"
        company = [self.those(*other).replace("every version", "any version", 1) for other in others]
        return f"{subject} be used" + (f" with {' and '.join(company)}" if company else "")

    def _exclusion(self, why: Excluded, those: str) -> str:
        none = those.replace("every version", "no version", 1)
        whole, detail = none != those, why.detail
        if why.rule == "yanked":
            return f"{those} was yanked" + (f" ({detail})" if detail else "")
        told = {
            "base": f"{none} {'fits' if whole else 'does not fit'} your base ({detail})",
            "license": f"{those} {_licensed(detail)}, which your project does not allow (licenses)",
            "score": f"{none} {'has' if whole else 'does not have'} {detail}",
            "newer": f"{none} was {'' if whole else 'not '}published before {detail} (exclude-newer)",
            "undated": f"it is not known whether {those} was published before {detail} (exclude-newer)",
            "pre-release": f"{those} is a pre-release (your project does not ask for one)",
        }
        return told[why.rule]

    def _object(self, depends: Depends) -> str:
        """What is required, as it was written if all the releases say the same, or as the project overrides it."""
        override = self._packages[depends.name].amendment(depends.other)
        if override is not None:
            return self._overridden(override)
        said = self._said(depends.name, depends.releases, depends.other)
        return str(said[0]) if len(said) == 1 else self.one_of(depends.other, depends.needed)

    def _unmet(self, unmet: Unmet) -> str:
        requirement = unmet.requirement
        override = self._packages[unmet.name].amendment(requirement.name)
        if override is not None:
            return self._overridden(override)
        if len(self._said(unmet.name, unmet.releases, requirement.name)) == 1:
            return str(requirement)
        if not self._packages[requirement.name].known:
            return requirement.name
        return f"releases of {requirement.name} that do not exist, such as {requirement}"

    def _overridden(self, override: Wanted) -> str:
        return f"{override.requirement.name}, which your project overrides with {self.wanted(override)}"

    def _said(self, name: str, releases: int, other: str) -> list[Requirement]:
        """What these releases require of ``other``, each spelling once."""
        package = self._packages[name]
        requirements = (package.requires(place).get(other) for place in members(releases & package.candidates))
        return list({str(r): r for r in requirements if r is not None}.values())

    def _lack(self, requirement: Requirement) -> str:
        """Why nothing meets the requirement."""
        package = self._packages[requirement.name]
        if not package.known:
            return f"no registry has {requirement.name}"
        if not package.versions:
            return f"{requirement.name} has no releases"
        if requirement.digest is not None:
            return f"no release of {requirement.name} has this digest"
        oldest, newest = package.versions[0], package.versions[-1]
        if oldest == newest:
            return f"the only release of {requirement.name} is {newest}"
        return f"none of the {len(package.versions)} releases of {requirement.name}, {oldest} to {newest}, will do"
