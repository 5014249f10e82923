"""A proof in sentences, after the scheme in PubGrub's description: each line draws one conclusion from the last."""

from __future__ import annotations

from collections import Counter

from adpm.resolve.problem import Wanted
from adpm.resolve.proof import Leaf, Node, Step, steps
from adpm.resolve.words import Words

__all__ = ["prose"]


def prose(proof: Node, words: Words) -> list[str]:
    """The lines of the proof. Recursive: meant for proofs that a person would read."""
    if isinstance(proof, Leaf):
        return [f"Because {words.why(proof.why)}, there is no solution."]
    return _Writer(words, proof).write(proof)


class _Writer:
    def __init__(self, words: Words, proof: Step) -> None:
        self._words = words
        self._lines: list[str] = []
        self._numbers: dict[int, int] = {}
        self._uses = Counter(id(cause) for step in steps(proof) for cause in (step.left, step.right))

    def write(self, step: Step) -> list[str]:
        """Append the lines that prove ``step``; its conclusion is the last of them."""
        facts = [cause for cause in (step.left, step.right) if isinstance(cause, Leaf)]
        proved = [cause for cause in (step.left, step.right) if isinstance(cause, Step)]
        if len(proved) == 2:
            self._from_two(step, *proved)
        elif proved:
            self._from_one(step, proved[0], facts)
        else:
            self._say("Because", [], facts, step)
        return self._lines

    def _from_one(self, step: Step, cause: Step, facts: list[Leaf]) -> None:
        """A fact and a conclusion; where that one is used here only and rests on a fact itself, both in one line."""
        inner = [c for c in (cause.left, cause.right) if isinstance(c, Step)]
        if id(cause) not in self._numbers and self._uses[id(cause)] == 1 and len(inner) == 1:
            facts = [c for c in (cause.left, cause.right) if isinstance(c, Leaf)] + facts
            cause = inner[0]
        self._continue(step, cause, [], facts)

    def _from_two(self, step: Step, one: Step, other: Step) -> None:
        if id(other) in self._numbers:
            one, other = other, one
        if id(one) not in self._numbers:
            self.write(one)
            self._number(one)
        self._continue(step, other, [one], [])

    def _continue(self, step: Step, cause: Step, earlier: list[Step], facts: list[Leaf]) -> None:
        if id(cause) in self._numbers:
            self._say("Because", [cause, *earlier], facts, step)
        else:
            self.write(cause)
            self._say("And because", earlier, facts, step)

    def _number(self, step: Step) -> None:
        self._numbers[id(step)] = len(self._numbers) + 1
        self._lines[-1] += f" ({self._numbers[id(step)]})"

    def _say(self, opening: str, earlier: list[Step], facts: list[Leaf], step: Step) -> None:
        reasons = [f"{self._words.claim(cause.claim)} ({self._numbers[id(cause)]})" for cause in earlier]
        reasons += [self._words.why(fact.why) for fact in facts if not isinstance(fact.why, Wanted)]
        wanted = sorted((fact.why for fact in facts if isinstance(fact.why, Wanted)), key=lambda w: w.where)
        if wanted:
            reasons.append(f"your project requires {' and '.join(map(self._words.wanted, wanted))}")
        listed = ", ".join(reasons[:-1]) + (" and " if len(reasons) > 1 else "") + reasons[-1]
        self._lines.append(f"{opening} {listed}, {self._words.claim(step.claim)}.")
        if self._uses[id(step)] > 1:
            self._number(step)
