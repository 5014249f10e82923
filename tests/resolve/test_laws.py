"""The solver against trying everything, on thousands of small random problems."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import cast

import pytest

from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.catalog import AtHand, Catalog
from adpm.resolve.facts import Excluded, Unmet
from adpm.resolve.fetch import Fetcher
from adpm.resolve.package import members
from adpm.resolve.problem import Locked, Resolution, Wanted
from adpm.resolve.proof import Claim, Nothing, Step, Why, leaves, simplify, steps
from adpm.resolve.provider import Provider
from adpm.resolve.search import Refuted, search
from adpm.resolve.shorten import Trials
from adpm.resolve.solve import resolve
from tests.resolve.problems import Case, random_case
from tests.resolve.shelf import Shelf, amended, eligible, meets, possible, verify

GROUPS = range(40)
EACH = 40


def cases(group: int) -> list[Case]:
    return [random_case(group * EACH + number) for number in range(EACH)]


def answer(case: Case) -> Resolution | None:
    try:
        return resolve(case.problem, case.shelf, threads=1)
    except NoSolutionError:
        return None


@pytest.mark.parametrize("group", GROUPS)
def test_a_solution_is_right_and_missing_only_where_there_is_none(group: int) -> None:
    for case in cases(group):
        resolution = answer(case)
        if resolution is None:
            assert not possible(case.problem, case.packages)
        else:
            assert verify(case.problem, case.packages, resolution.chosen) == []


@pytest.mark.parametrize("group", GROUPS)
def test_the_order_of_lines_and_releases_changes_nothing(group: int) -> None:
    chance = random.Random(group)
    for case in cases(group)[::4]:
        shuffled = Shelf(*chance.sample(releases := [r for p in case.packages.values() for r in p], len(releases)))
        lines = tuple(chance.sample(case.problem.wanted, len(case.problem.wanted)))
        other = answer(Case(replace(case.problem, wanted=lines), shuffled))
        first = answer(case)
        assert (first and first.chosen) == (other and other.chosen)


@pytest.mark.parametrize("group", GROUPS)
def test_an_answer_that_is_locked_stays(group: int) -> None:
    for case in cases(group)[::4]:
        first = answer(case)
        if first is not None:
            again = answer(Case(replace(case.problem, locked=locked(first)), case.shelf))
            assert again is not None
            assert again.chosen == first.chosen


@pytest.mark.parametrize("group", GROUPS)
def test_the_lines_that_are_blamed_have_no_solution_and_the_changes_proposed_do(group: int) -> None:
    for case in cases(group):
        try:
            resolve(case.problem, case.shelf, threads=1)
        except NoSolutionError as error:
            blamed = [w for w in case.problem.wanted if w.line in cast("tuple[str, ...]", error.lines)]
            assert not possible(case.problem, case.packages, blamed)
            for wanted in blamed:
                for proposed in re.findall(rf"let {wanted.where} admit (.*)", error.hint or ""):
                    changed = replace(wanted, requirement=Requirement.parse(proposed.replace(" ", " ==")))
                    whole = tuple(changed if w is wanted else w for w in case.problem.wanted)
                    unmet = [w for w in blamed if not satisfied(w, case)]
                    lines = [changed if w is wanted else w for w in blamed if w is wanted or w not in unmet]
                    assert possible(replace(case.problem, wanted=whole), case.packages, lines)


@pytest.mark.parametrize("group", GROUPS)
def test_every_step_of_a_proof_follows_and_every_fact_is_true(group: int) -> None:
    for case in cases(group):
        with Fetcher(case.shelf, 1) as fetcher:
            catalog = Catalog(case.problem, fetcher)
            provider = Provider(catalog)
            found = search(case.problem.wanted, provider, 10_000)
            if isinstance(found, Refuted):
                proof = simplify(found.proof, catalog)
                for node in (proof, Trials(AtHand(catalog, provider.met), 1_000).shortest(proof)):
                    assert not node.claim
                    assert all(follows(step, catalog) for step in steps(node))
                    assert all(true(leaf.why, catalog, case) for leaf in leaves(node))


def follows(step: Step, catalog: Catalog) -> bool:
    """Whether no choice contradicts the step's claim without contradicting one of its causes."""
    names = sorted({*step.claim, *step.left.claim, *step.right.claim})
    for choice in product(*([None, *range(len(catalog[name].releases))] for name in names)):
        chosen = dict(zip(names, choice, strict=True))
        if contradicts(chosen, step.claim) and not any(contradicts(chosen, c.claim) for c in (step.left, step.right)):
            return False
    return True


def contradicts(chosen: Mapping[str, int | None], claim: Claim) -> bool:
    return all(
        term.positive == ((place := chosen[name]) is not None and term.releases >> place & 1 == 1)
        for name, term in claim.items()
    )


def true(why: Why, catalog: Catalog, case: Case) -> bool:
    if isinstance(why, Wanted):
        return why in case.problem.wanted
    assert not isinstance(why, Nothing)
    package = catalog[why.name]
    releases = [package.releases[place] for place in members(why.releases)]
    if isinstance(why, Excluded):
        return not any(eligible(release, case.problem, case.packages[why.name]) for release in releases)
    eligibles = [r for r in releases if eligible(r, case.problem, case.packages[why.name])]
    if isinstance(why, Unmet):
        unmet = why.requirement
        return all(not satisfying(r, unmet.name, case) for r in eligibles)
    needed = {catalog[why.other].releases[place].manifest.digest for place in members(why.needed)}
    return all(satisfying(r, why.other, case) <= needed for r in eligibles)


def satisfied(wanted: Wanted, case: Case) -> bool:
    return any(meets(wanted.requirement, release) for release in case.packages.get(wanted.requirement.name, ()))


def satisfying(release: Listing, name: str, case: Case) -> set[str]:
    """The digests of the releases of ``name`` that meet all that ``release`` requires of it."""
    listed = case.packages.get(name, ())
    requirements = [r for r in amended(release, case.problem) if r.name == name]
    assert requirements
    return {other.manifest.digest for other in listed if all(meets(r, other) for r in requirements)}


def locked(resolution: Resolution) -> dict[PackageName, Locked]:
    return {name: Locked(r.version, r.manifest.digest) for name, r in resolution.chosen.items()}
