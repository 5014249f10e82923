"""Say why there is no solution, and what would make one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from adpm import limits
from adpm.core.licenses import UNSTATED
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
    words = Words(packages)
    unmet = [w for w in problem.wanted if not packages[w.requirement.name].meeting(w.requirement)]
    if unmet:
        met = [w for w in problem.wanted if w not in unmet]
        facts = [Leaf({}, w) for w in unmet]
        told = [words.alone(w) for w in unmet]
        changes = [_change(w, ([w], [*met, w]), packages, trials) for w in unmet]
        return _error(told, unmet, [*changes, *_suggestions(facts, packages)], "these may help:")
    proof = trials.shortest(simplify(refuted.proof, packages))
    facts = leaves(proof)
    blamed = [w for w in problem.wanted if any(leaf.why is w for leaf in facts)]
    changes = [_change(w, (blamed, problem.wanted), packages, trials) for w in blamed]
    overrides = [w for w in problem.overrides if any(_rests_on(leaf, w, packages) for leaf in facts)]
    ways = [*changes, *(f"change the override in {w.where}" for w in overrides), *_suggestions(facts, packages)]
    return _error(_told(proof, words), [*blamed, *overrides], ways, "one of these may help:")


def _rests_on(leaf: Leaf, override: Wanted, packages: Packages) -> bool:
    """Whether a fact is true of what the project says in place of the releases."""
    if isinstance(leaf.why, Depends):
        return packages[leaf.why.name].amendment(leaf.why.other) is override
    return isinstance(leaf.why, Unmet) and packages[leaf.why.name].amendment(leaf.why.requirement.name) is override


def _error(told: list[str], blamed: Sequence[Wanted], ways: Iterable[str | None], title: str) -> NoSolutionError:
    lines = tuple(wanted.line.rstrip() for wanted in blamed)
    known = list(dict.fromkeys(filter(None, ways)))[:_WAYS]
    if not known:
        known = ["remove one of these lines" if len(lines) > 1 else "remove this line, or ask for another package"]
    return NoSolutionError(
        "no-solution",
        "no set of releases meets what the project requires",
        cause="\n".join([*told, *(f"  {line}" for line in lines)]),
        hint=known[0] if len(known) == 1 else "\n  ".join([title, *known]),
        lines=lines,
    )


def _told(proof: Node, words: Words) -> list[str]:
    if len(steps(proof)) <= _STEPS:
        return prose(proof, words)
    facts = list(dict.fromkeys(words.why(leaf.why) for leaf in sorted(leaves(proof), key=_place)))
    more = [f"  and {len(facts) - _FACTS} more"] if len(facts) > _FACTS else []
    return ["These facts contradict each other:", *(f"  {fact}" for fact in facts[:_FACTS]), *more]


def _place(leaf: Leaf) -> tuple[bool, str, int]:
    """By package and its oldest release that is meant; the project's own lines last."""
    if isinstance(leaf.why, Wanted):
        return True, leaf.why.where, 0
    return False, leaf.why.name, leaf.why.releases & -leaf.why.releases


def _change(wanted: Wanted, contexts: Iterable[Sequence[Wanted]], packages: Packages, trials: Trials) -> str | None:
    """What a line would have to admit for a solution: with the lines of the last context in a row that has one."""
    name = wanted.requirement.name
    loose = replace(wanted, requirement=Requirement(name))
    way = None
    for lines in contexts:
        found = trials.selected([loose if line is wanted else line for line in lines])
        if found is None:
            break
        way = f"let {wanted.where} admit {name} {packages[name].versions[found.places[name]]}"
    return way


def _suggestions(facts: Sequence[Leaf], packages: Packages) -> Iterator[str]:
    for leaf in facts:
        if isinstance(leaf.why, Excluded):
            yield _admit(leaf.why, facts, packages)
        elif isinstance(leaf.why, Wanted | Unmet) and not packages[leaf.why.requirement.name].known:
            name, near = leaf.why.requirement.name, packages[leaf.why.requirement.name].near
            meant = f"did you mean {' or '.join(near)}? If not," if near else f"check the name {name}, or"
            yield f"{meant} add a registry that has {name if near else 'it'}"
        elif isinstance(leaf.why, Unmet) and packages[leaf.why.name].amendment(leaf.why.requirement.name) is None:
            other = packages[leaf.why.requirement.name]
            if other.versions:
                what = f"overrides: ['{other.name} =={other.versions[-1]}']"
                yield f"if {leaf.why.name} asks too much, say what it gets in adapter.yaml: {what}"


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
    if excluded.rule == "license":
        added = excluded.detail or UNSTATED
        return f"to use {excluded.name} {newest.version}, add {added!r} to licenses: {{allow: [...]}} in adapter.yaml"
    if excluded.rule == "score":
        return f"lower what 'where' wants of {excluded.name} in adapter.yaml"
    if excluded.rule in {"newer", "undated"}:
        when = f", published {newest.published}," if newest.published else ""
        later = "set exclude-newer: to a later moment" if newest.published else "set exclude-undated: false"
        pin = f"'{excluded.name}@{newest.manifest.digest}'"
        return f"to use {excluded.name} {newest.version}{when} {later} or pin it in adapter.yaml: {pin}"
    model = f" ({newest.base.model})" if newest.base.model else ""
    return f"to use {excluded.name} {newest.version}, set base: to the model it was trained for{model}"
