"""Small random problems, with everything that a rule speaks of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adpm.core.metrics import Floor, Preference, Score
from adpm.core.names import PackageName
from adpm.core.release import Listing, Metric
from adpm.resolve.problem import Locked, Problem, Wanted
from tests.resolve.shelf import ANY_BASE, Shelf, base, listing, wanted

__all__ = ["Case", "random_case"]

_NAMES = ("a", "b", "c", "d")
_VERSIONS = ("1.0", "1.1", "2.0rc1", "2.0", "2.0.post1", "3.0.dev1", "3.0")
_CONSTRAINTS = (
    *(
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        ">=2.0",
        ">=1.1",
        ">=1.0",
        "<=3.0",
        "<2.0",
        "<=1.1",
        ">1.0",
        ">2.0",
        "!=2.0",
        "==1.*",
        "~=1.0",
        "==2.0",
        "==1.1",
    ),
    *("==2.0rc1", ">=2.0rc1,<3.0", "==2.0.post1", "<3.0,>=1.1", ">3.0"),
)


@dataclass(frozen=True)
class Case:
    problem: Problem
    shelf: Shelf

    @property
    def packages(self) -> Mapping[str, Sequence[Listing]]:
        return self.shelf.packages


def random_case(seed: int, names: Sequence[str] = _NAMES, least: int = 2) -> Case:
    """``least`` or more packages out of ``names``, of at most four releases; about two in five have a solution."""
    chance = random.Random(seed)
    names = names[: chance.randint(least, len(names))]
    shelf = Shelf(
        *(
            listing(
                name,
                version,
                *(
                    _requirement(chance, other)
                    for other in chance.sample([*names, "missing"], chance.choice((0, 1, 1, 2)))
                    if other != "missing" or chance.random() < 0.1
                ),
                yanked=chance.choice(("", "broken")) if chance.random() < 0.12 else None,
                fits=base(1024) if chance.random() < 0.12 else chance.choice((ANY_BASE, base(768))),
                license_=chance.choice(("MIT", "MIT", "GPL-3.0-only", None)),
                metrics=tuple(
                    Metric("accuracy", chance.randint(0, 9) / 10) for _ in range(chance.choice((0, 1, 1, 2)))
                ),
                published=chance.choice((None, *(f"202{year}-01-01T00:00:00Z" for year in range(6)))),
            )
            for name in names
            for version in chance.sample(_VERSIONS, chance.choice((1, 2, 3, 3, 4, 4)))
        )
    )
    lines = [_requirement(chance, name) for name in chance.choices(names, k=chance.choice((1, 2, 2, 3)))]
    some = chance.choice([release for releases in shelf.packages.values() for release in releases])
    if chance.random() < 0.1:
        lines.append(f"{some.name}@{some.manifest.digest}")
    locked = {}
    for name in names:
        if chance.random() < 0.3:
            release = chance.choice(shelf.packages[name])
            locked[PackageName(name)] = Locked(release.version, chance.choice((None, release.manifest.digest)))
    problem = Problem(
        tuple(_scored(chance, line) for line in wanted(*lines)),
        base(768) if chance.random() < 0.5 else None,
        locked,
        chance.choice(("all", "if-necessary-or-explicit")),
        overrides=wanted(*(_requirement(chance, name) for name in names if chance.random() < 0.1), first=30),
        before="2024-01-01T00:00:00Z" if chance.random() < 0.2 else None,
        exclude_undated=chance.random() < 0.7,
        licenses=("MIT",) if chance.random() < 0.1 else None,
        order=chance.choice(("highest", "highest", "lowest", "lowest-direct")),
    )
    overridden = {line.requirement.name for line in problem.overrides}
    gone = {PackageName(name) for name in (*names, "missing") if name not in overridden and chance.random() < 0.1}
    problem = replace(problem, exclude=frozenset(gone - {line.requirement.name for line in problem.wanted}))
    return Case(problem, shelf)


def _scored(chance: random.Random, line: Wanted) -> Wanted:
    floor = Floor(Score("accuracy"), ">=", chance.randint(0, 9) / 10)
    return replace(
        line,
        floors=(floor,) if chance.random() < 0.1 else (),
        prefer=Preference(Score("accuracy"), lowest=chance.random() < 0.5) if chance.random() < 0.2 else None,
    )


def _requirement(chance: random.Random, name: str) -> str:
    return f"{name} {chance.choice(_CONSTRAINTS)}".strip()
