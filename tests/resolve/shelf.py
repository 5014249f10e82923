"""A source of releases in memory, and a judge of answers that shares no code with the resolver."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import product

from packaging.version import Version

from adpm.core.base import BaseIdentity, Shape
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Listing, Metric
from adpm.core.requirement import Requirement
from adpm.errors import NotFoundError
from adpm.resolve.problem import Problem, Wanted

__all__ = ["ANY_BASE", "Shelf", "amended", "base", "listing", "possible", "verify", "wanted"]

ANY_BASE = BaseIdentity(None, None, None, None)


def base(hidden: int) -> BaseIdentity:
    return BaseIdentity(f"bert-{hidden}", None, Shape("bert", (("hidden_size", hidden),)), None)


def listing(
    name: str,
    version: str,
    *requires: str,
    yanked: str | None = None,
    fits: BaseIdentity = ANY_BASE,
    content: str = "",
    published: str | None = None,
    license_: str | None = None,
    metrics: tuple[Metric, ...] = (),
) -> Listing:
    """A release; what it requires as adpm writes it (``b >=1``, ``c@sha256:...``)."""
    digest = Digest.of(f"{name} {version} {content}".encode())
    found = sorted(map(Requirement.parse, requires), key=lambda r: r.name)
    return Listing(
        PackageName(name), Version(version), Blob(digest, 1), tuple(found), fits, yanked, published, license_, metrics
    )


def wanted(*lines: str, first: int = 3) -> tuple[Wanted, ...]:
    """Lines as in a manifest's ``adapters:``, the first of them at line ``first``: ``sst: text/sst-2 >=1.2``."""
    found = []
    for number, line in enumerate(lines, first):
        requirement = Requirement.parse(line.partition(": ")[2] or line)
        found.append(Wanted(requirement, f"adapter.yaml:{number}", line))
    return tuple(found)


class Shelf:
    """Releases by package, as a ``Source``; remembers in ``asked`` what it was asked for, in order."""

    def __init__(self, *releases: Listing) -> None:
        self.packages: dict[str, list[Listing]] = {}
        self.asked: list[str] = []
        for release in releases:
            self.packages.setdefault(release.name, []).append(release)

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        self.asked.append(name)
        if name not in self.packages:
            near = tuple(difflib.get_close_matches(name, sorted(self.packages), n=3))
            raise NotFoundError("package-not-found", f"no registry has {name}", near=near)
        return self.packages[name]


def meets(requirement: Requirement, release: Listing) -> bool:
    if requirement.digest is not None:
        return requirement.digest == release.manifest.digest
    return requirement.specifiers.contains(release.version, prereleases=True)


def eligible(release: Listing, problem: Problem, listed: Sequence[Listing]) -> bool:
    """Whether the rules admit the release, whatever is required: base, yanks, pre-releases."""
    if problem.base is not None and release.base.misfit(problem.base) is not None:
        return False
    own = [w.requirement for w in (*problem.wanted, *problem.overrides) if w.requirement.name == release.name]
    if not _old_enough(release, own, problem) or not _good_enough(release, problem):
        return False
    if release.yanked is not None and not _excused(release, own, problem):
        return False
    if not release.version.is_prerelease or problem.prereleases == "all":
        return True
    if all(other.version.is_prerelease for other in listed):
        return True
    named = any(s.prereleases for r in own for s in r.specifiers)
    return named or any(r.digest == release.manifest.digest for r in own)


def _old_enough(release: Listing, own: Sequence[Requirement], problem: Problem) -> bool:
    pinned = any(r.digest == release.manifest.digest for r in own)
    if problem.before is None or pinned:
        return True
    return not problem.exclude_undated if release.published is None else release.published < problem.before


def _good_enough(release: Listing, problem: Problem) -> bool:
    """Whether license and scores will do; knows floors ``NAME >= NUMBER`` and licenses without operators."""
    if problem.licenses is not None and release.license not in problem.licenses:
        return False
    for line in problem.wanted:
        for floor in line.floors if line.requirement.name == release.name else ():
            values = [m.value for m in release.metrics if m.name == floor.score.name]
            if not values or min(values) < floor.bound:
                return False
    return True


def _excused(release: Listing, own: Sequence[Requirement], problem: Problem) -> bool:
    locked = problem.locked.get(release.name)
    if locked and locked.version == release.version and locked.digest in (None, release.manifest.digest):
        return True
    return any(
        meets(requirement, release)
        and (
            requirement.digest is not None
            or any(s.operator == "==" and not s.version.endswith("*") for s in requirement.specifiers)
        )
        for requirement in own
    )


def amended(release: Listing, problem: Problem) -> list[Requirement]:
    """What the release requires where the project's overrides and exclusions are in force."""
    overrides = {w.requirement.name: w.requirement for w in problem.overrides}
    return [overrides.get(r.name, r) for r in release.requires if r.name not in problem.exclude]


def verify(
    problem: Problem,
    packages: Mapping[str, Sequence[Listing]],
    chosen: Mapping[PackageName, Listing],
    lines: Sequence[Wanted] | None = None,
) -> list[str]:
    """Everything that is wrong with an answer, by the rules of specs/resolver.md alone.

    ``lines``: judge it as an answer to these only; what is a candidate is still up to the whole problem.
    """
    own = [w.requirement for w in (problem.wanted if lines is None else lines)]
    faults = []
    required = [("the project", requirement) for requirement in own]
    for name, release in chosen.items():
        if release not in packages.get(name, ()):
            faults.append(f"{name} {release.version} is not listed")
        elif not eligible(release, problem, packages[name]):
            faults.append(f"{name} {release.version} is no candidate")
        required += [(f"{name} {release.version}", requirement) for requirement in amended(release, problem)]
    for who, requirement in required:
        if requirement.name not in chosen:
            faults.append(f"{who} requires {requirement}, which is not chosen")
        elif not meets(requirement, chosen[requirement.name]):
            faults.append(f"{who} requires {requirement}, chosen is {chosen[requirement.name].version}")
    needed: set[PackageName] = set()
    news = [requirement.name for requirement in own]
    while news:
        name = news.pop()
        if name not in needed and name in chosen:
            news += [r.name for r in amended(chosen[name], problem)]
        needed.add(name)
    faults += [f"nobody requires {name}" for name in chosen if name not in needed]
    return faults


def possible(
    problem: Problem, packages: Mapping[str, Sequence[Listing]], lines: Sequence[Wanted] | None = None
) -> bool:
    """Whether any answer is right, by trying every combination; for small problems only."""
    names = sorted(packages)
    for choice in product(*([None, *packages[name]] for name in names)):
        chosen = {
            PackageName(name): release for name, release in zip(names, choice, strict=True) if release is not None
        }
        if not verify(problem, packages, chosen, lines):
            return True
    return False
