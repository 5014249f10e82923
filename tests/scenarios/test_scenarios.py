"""Resolver problems from other package managers, in a directory that is not part of the project.

``ADPM_SCENARIOS_DIR`` names it; its README describes the files. Each must be judged as expected, and a solution be
right by rules that are written out here once more, within the work budget.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Listing
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.problem import Problem, Wanted
from adpm.resolve.solve import resolve
from tests.resolve.shelf import ANY_BASE, Shelf

DIRECTORY = Path(os.environ.get("ADPM_SCENARIOS_DIR") or Path(__file__).parents[3] / "shared" / "scenarios")
FILES = sorted(DIRECTORY.glob("**/*.json"))
DECISIONS = 10_000


def requirement(name: str, constraint: str) -> Requirement:
    return Requirement(PackageName(name), SpecifierSet(constraint))  # names such as name[extra] are taken as they are


def shelf(scenario: dict[str, Any]) -> Shelf:
    return Shelf(
        *(
            Listing(
                PackageName(name),
                Version(version),
                Blob(Digest.of(f"{name} {version}".encode()), 1),
                tuple(requirement(*pair) for pair in sorted(requires.items())),
                ANY_BASE,
                "" if version in scenario.get("yanked", {}).get(name, []) else None,
            )
            for name, versions in scenario["packages"].items()
            for version, requires in versions.items()
        )
    )


def faults(scenario: dict[str, Any], chosen: dict[str, str]) -> list[str]:
    """What is wrong with a solution, by the README's rules."""
    packages, root = scenario["packages"], scenario["root"]
    required = [("the root", *pair) for pair in root.items()]
    for name, version in chosen.items():
        required += [(name, *pair) for pair in packages[name][version].items()]
    found = [
        f"{who} requires {name} {constraint}: {chosen.get(name)}"
        for who, name, constraint in required
        if name not in chosen or not SpecifierSet(constraint).contains(chosen[name], prereleases=True)
    ]
    reached: set[str] = set()
    news = list(root)
    while news:
        name = news.pop()
        if name in chosen and name not in reached:
            reached.add(name)
            news += packages[name][chosen[name]]
    found += [f"nobody requires {name}" for name in chosen.keys() - reached]
    for name, version in chosen.items():
        own = list(SpecifierSet(root.get(name, "")))
        if version in scenario.get("yanked", {}).get(name, []) and not any(s.operator == "==" for s in own):
            found.append(f"{name} {version} is yanked")
        if scenario["prerelease"] != "all" and Version(version).is_prerelease:
            finals = [v for v in packages[name] if not Version(v).is_prerelease]
            if finals and not any(s.prereleases for s in own):
                found.append(f"{name} {version} is a pre-release")
    return found


@pytest.mark.skipif(not FILES, reason=f"no scenarios in {DIRECTORY}")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DIRECTORY).with_suffix("").as_posix())
def test_scenario(path: Path) -> None:
    scenario = json.loads(path.read_text(encoding="utf-8"))
    wanted = tuple(
        Wanted(requirement(name, constraint), f"root:{number}", f"{name} {constraint}")
        for number, (name, constraint) in enumerate(scenario["root"].items(), 1)
    )
    problem = Problem(wanted, prereleases=scenario["prerelease"])
    try:
        found = resolve(problem, shelf(scenario), decisions=DECISIONS, threads=1).chosen
    except NoSolutionError:
        found = None
    assert (found is not None) == scenario["expect"]["sat"]
    if found is not None:
        spelled = {(name, Version(v)): v for name, versions in scenario["packages"].items() for v in versions}
        assert faults(scenario, {str(name): spelled[name, release.version] for name, release in found.items()}) == []
