"""The solver against z3, on random problems too large to try everything.

The encoding shares no code with the resolver: a variable for each release that the rules admit, at most one of a
package, and every requirement an implication. What is only needed by nothing can be dropped from an answer, so that
the rule against it takes away no solution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.problem import Wanted
from adpm.resolve.solve import resolve
from tests.resolve.problems import Case, random_case
from tests.resolve.shelf import amended, eligible, meets, verify

z3: Any = pytest.importorskip("z3")

NAMES: Final = tuple("abcdefghijkl")
EACH: Final = 25


def solvable(case: Case, lines: Sequence[Wanted] | None = None) -> bool:
    """Whether z3 finds an answer to ``lines`` (None: all that is wanted) by the rules of the whole problem."""
    solver = z3.Solver()
    candidates = {
        name: [
            (release, z3.Bool(f"{name} {place}"))
            for place, release in enumerate(releases)
            if eligible(release, case.problem, releases)
        ]
        for name, releases in case.packages.items()
    }

    def met(requirement: Requirement) -> Any:
        return z3.Or(
            [chosen for release, chosen in candidates.get(requirement.name, ()) if meets(requirement, release)]
        )

    for releases in candidates.values():
        solver.add(z3.AtMost(*(chosen for _, chosen in releases), 1)) if releases else None
        for release, chosen in releases:
            solver.add([z3.Implies(chosen, met(requirement)) for requirement in amended(release, case.problem)])
    solver.add([met(wanted.requirement) for wanted in (case.problem.wanted if lines is None else lines)])
    return bool(solver.check() == z3.sat)


def judge(seed: int) -> bool:
    """Compare on one problem; whether it has a solution."""
    case = random_case(seed, NAMES, least=6)
    try:
        chosen = resolve(case.problem, case.shelf, threads=1).chosen
    except NoSolutionError as error:
        assert not solvable(case), seed
        check_explanation(case, error)
        return False
    assert verify(case.problem, case.packages, chosen) == [], seed
    return True


def check_explanation(case: Case, error: NoSolutionError) -> None:
    """The lines that are blamed have no solution by themselves, and each change that is proposed makes one."""
    told = cast("tuple[str, ...]", error.lines)
    blamed = [wanted for wanted in case.problem.wanted if wanted.line in told]
    assert blamed
    assert not solvable(case, blamed)
    unmet = [w for w in blamed if not any(meets(w.requirement, r) for r in case.packages.get(w.requirement.name, ()))]
    for wanted in blamed:
        for proposed in re.findall(rf"let {wanted.where} admit (.*)", error.hint or ""):
            changed = replace(wanted, requirement=Requirement.parse(proposed.replace(" ", " ==")))
            whole = tuple(changed if w is wanted else w for w in case.problem.wanted)
            lines = [changed if w is wanted else w for w in blamed if w is wanted or w not in unmet]
            assert solvable(replace(case, problem=replace(case.problem, wanted=whole)), lines)


@pytest.mark.parametrize("group", range(20))
def test_z3_agrees(group: int) -> None:
    found = [judge(seed) for seed in range(group * EACH, group * EACH + EACH)]
    assert 0 < sum(found) < EACH


@pytest.mark.slow
@pytest.mark.parametrize("group", range(20, 220))
def test_z3_agrees_on_thousands(group: int) -> None:
    test_z3_agrees(group)
