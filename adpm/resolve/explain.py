"""Say why there is no solution, and what would make one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from adpm import limits
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.catalog import AtHand, Packages
from adpm.resolve.facts import Excluded, Unmet
from adpm.resolve.problem import Problem, Wanted
from adpm.resolve.proof import Depends, Leaf, Node, leaves, simplify, steps
from adpm.resolve.prose import prose
from adpm.resolve.search import Refuted
from adpm.resolve.shorten import Trials
from adpm.resolve.words import Words

__all__ = ["no_solution"]

_STEPS: Final = 24  # nobody reads a longer proof: it is told as the facts that contradict each other
_FACTS: Final = 20
_WAYS: Final = 5


def no_solution(problem: Problem, packages: AtHand, refuted: Refuted) -> NoSolutionError:
    """``no-solution``: the shortest proof found as prose, the user's own lines that meet in it, the ways out.

    The attribute ``lines`` holds these lines. Works on what the search has fetched, about as long as the search did.
    """
    trials = Trials(packages, max(limits.EXPLANATION_DECISIONS, refuted.decisions))
    proofs: list[Node] = [
        Leaf({}, wanted)
        for wanted in problem.wanted
        if not packages[wanted.requirement.name].meeting(wanted.requirement)
    ]
    if not proofs:
        proofs = [trials.shortest(simplify(refuted.proof, packages))]
    facts = [leaf for proof in proofs for leaf in leaves(proof)]
    lines = [wanted for wanted in problem.wanted if any(leaf.why is wanted for leaf in facts)]
    words = Words(packages)
    told = [line for proof in proofs for line in _told(proof, words)]
    ways = _ways(facts, lines, packages, trials)[:_WAYS]
    return NoSolutionError(
        "no-solution",
        "no set of releases meets what the project requires",
        cause="\n".join([*told, *(f"  {wanted.line.rstrip()}" for wanted in lines)]),
        hint=ways[0] if len(ways) == 1 else "one of these may help:\n" + "\n".join(f"  {way}" for way in ways),
        lines=tuple(wanted.line for wanted in lines),
    )


def _told(proof: Node, words: Words) -> list[str]:
    if len(steps(proof)) <= _STEPS:
        return prose(proof, words)
    facts = sorted({words.why(leaf.why) for leaf in leaves(proof)})
    more = [f"  and {len(facts) - _FACTS} more"] if len(facts) > _FACTS else []
    return ["These facts contradict each other:", *(f"  {fact}" for fact in facts[:_FACTS]), *more]


def _ways(facts: Sequence[Leaf], lines: Sequence[Wanted], packages: Packages, trials: Trials) -> list[str]:
    """What would help: changes to the user's lines that were tried, then what the facts suggest."""
    ways: dict[str, None] = {}
    for wanted in lines:
        name = wanted.requirement.name
        loose = replace(wanted, requirement=Requirement(name))
        found = trials.selected([loose if other is wanted else other for other in lines])
        if found is not None:
            ways[f"let {wanted.where} admit {name} {packages[name].versions[found.places[name]]}"] = None
    for leaf in facts:
        if isinstance(leaf.why, Excluded):
            ways[_admit(leaf.why, facts, packages)] = None
        elif isinstance(leaf.why, Wanted | Unmet) and not packages[leaf.why.requirement.name].known:
            ways[f"check the name {leaf.why.requirement.name}, or add a registry that has it"] = None
    if not ways:
        ways[
            "remove one of these lines" if len(lines) > 1 else f"remove {lines[0].where}, or ask for another package"
        ] = None
    return list(ways)


def _admit(excluded: Excluded, facts: Sequence[Leaf], packages: Packages) -> str:
    """How to make a candidate of what a rule shuts out: of the newest release that the requirements would take."""
    package = packages[excluded.name]
    fitting = excluded.releases
    for leaf in facts:
        if isinstance(leaf.why, Wanted) and leaf.why.requirement.name == excluded.name:
            fitting = fitting & package.meeting(leaf.why.requirement) or fitting
        elif isinstance(leaf.why, Depends) and leaf.why.other == excluded.name:
            fitting = fitting & leaf.why.needed or fitting
    newest = package.releases[fitting.bit_length() - 1]
    if excluded.rule == "yanked":
        return f"to use a yanked release, pin it in adapter.yaml: '{excluded.name} =={newest.version}'"
    if excluded.rule == "pre-release":
        return f"to use a pre-release, name one in adapter.yaml: '{excluded.name} >={newest.version}'"
    model = f" ({newest.base.model})" if newest.base.model else ""
    return f"to use {excluded.name} {newest.version}, set base: to the model it was trained for{model}"
