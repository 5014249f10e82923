"""Changing one thing changes no more than it must; and the answer is the same however the registries answer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import pytest

from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.problem import Locked, Problem, Resolution, Wanted
from adpm.resolve.solve import resolve
from tests.resolve.problems import Case, random_case
from tests.resolve.shelf import Shelf, listing, verify, wanted

GROUPS = range(20)
EACH = 40

Chosen = Mapping[PackageName, Listing]


def answer(problem: Problem, shelf: Shelf, threads: int = 1) -> Resolution | None:
    try:
        return resolve(problem, shelf, threads=threads)
    except NoSolutionError:
        return None


def changed(seed: int) -> tuple[Case, Chosen] | None:
    """A case whose problem has the answer to another one locked, and that: one line was added, perhaps one replaced."""
    case = random_case(seed)
    first = answer(replace(case.problem, locked={}), case.shelf)
    if first is None:
        return None
    chance = random.Random(seed)
    name = chance.choice(sorted(case.packages))
    text = f"{name} {chance.choice(('', '>=2.0', '<2.0', '<=1.1', '>=1.1', '!=3.0', '==1.*'))}".strip()
    line = Wanted(Requirement.parse(text), "adapter.yaml:99", text)
    locked = {name: Locked(r.version, r.manifest.digest) for name, r in first.chosen.items()}
    rest = case.problem.wanted[chance.choice((0, 0, 1)) :]
    return Case(replace(case.problem, wanted=(*rest, line), locked=locked), case.shelf), first.chosen


def solutions(case: Case) -> Iterator[Chosen]:
    names = sorted(case.packages)
    for choice in product(*([None, *case.packages[name]] for name in names)):
        chosen = {PackageName(n): r for n, r in zip(names, choice, strict=True) if r is not None}
        if not verify(case.problem, case.packages, chosen):
            yield chosen


def moved(before: Chosen, after: Chosen) -> set[PackageName]:
    return {name for name, release in before.items() if name in after and after[name] is not release}


@pytest.mark.parametrize("group", GROUPS)
def test_another_requirement_moves_nothing_that_need_not_move(group: int) -> None:
    judged = 0
    for seed in range(group * EACH, group * EACH + EACH):
        found = changed(seed)
        if found is None:
            continue
        case, before = found
        after = answer(case.problem, case.shelf)
        if after is None:
            continue
        judged += 1
        assert not verify(case.problem, case.packages, after.chosen)
        right = list(solutions(case))
        could_stay = {name for chosen in right for name in chosen if chosen[name] is before.get(name)}
        mine = moved(before, after.chosen) & could_stay
        assert not any(moved(before, other) & could_stay < mine for other in right), seed
    assert judged


class Slow(Shelf):
    """Answers after random times, each package's releases in random order."""

    def __init__(self, seed: int, *releases: Listing) -> None:
        super().__init__(*releases)
        self.chance = random.Random(seed)

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        found = super().candidates(name)
        time.sleep(self.chance.uniform(0, 0.002))
        return self.chance.sample(found, len(found))


@pytest.mark.parametrize("group", GROUPS)
def test_the_answer_is_the_same_whatever_comes_first(group: int) -> None:
    for seed in range(group * 10, group * 10 + 10):
        case = random_case(seed)
        releases = [release for listed in case.packages.values() for release in listed]
        shuffled = tuple(random.Random(seed).sample(case.problem.wanted, len(case.problem.wanted)))
        told: set[str] = set()
        for threads in (1, 2, 8):
            problem = replace(case.problem, wanted=shuffled if threads == 8 else case.problem.wanted)
            try:
                found = resolve(problem, Slow(seed + threads, *releases), threads=threads)
                told.add("\n".join(f"{name} {release.manifest.digest}" for name, release in found.chosen.items()))
            except NoSolutionError as error:
                told.add(f"{error.cause}\n{error.hint}" if threads != 8 else error.code)
                told.discard("no-solution")
        assert len(told) == 1


def rows(*releases: tuple[str, ...]) -> Shelf:
    return Shelf(*(listing(*release) for release in releases))


def versions(chosen: Chosen) -> dict[str, str]:
    return {str(name): str(release.version) for name, release in chosen.items()}


LOCKED = {PackageName(name): Locked(listing(name, "1").version) for name in ("a", "b", "c", "shared")}


def test_what_is_first_moves_and_takes_along_what_it_must() -> None:
    """``update a``: its newest release needs a newer ``shared``, which b, being indifferent, does not keep back."""
    shelf = rows(
        ("a", "1", "shared"), ("a", "2", "shared >=2"), ("b", "1", "shared"), ("b", "2", "shared"),
        ("shared", "1"), ("shared", "2"), ("shared", "3"), ("c", "1"), ("c", "2"),
    )  # fmt: skip
    kept = {name: locked for name, locked in LOCKED.items() if name != "a"}
    problem = Problem(wanted("a", "b", "c"), locked=kept, first=frozenset({PackageName("a")}))
    found = resolve(problem, shelf, threads=1)
    assert versions(found.chosen) == {"a": "2", "b": "1", "c": "1", "shared": "3"}


def test_without_a_need_nothing_moves_with_what_is_first() -> None:
    shelf = rows(("a", "1", "shared"), ("a", "2", "shared"), ("shared", "1"), ("shared", "2"), ("b", "1"), ("b", "2"))
    kept = {name: locked for name, locked in LOCKED.items() if name != "a"}
    problem = Problem(wanted("a", "b"), locked=kept, first=frozenset({PackageName("a")}))
    assert versions(resolve(problem, shelf, threads=1).chosen) == {"a": "2", "b": "1", "shared": "1"}
