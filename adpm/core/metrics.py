"""Scores as a floor and as a preference, in a project's words.

    floor      = score OPERATOR NUMBER          accuracy on sst-2/validation >= 0.92
    preference = "metric:" score ["lowest"]     metric:accuracy    metric:perplexity on wiki lowest
    score      = NAME ["on" PLACE]              PLACE is a dataset, or a dataset, "/" and a split
    OPERATOR   = ">=" | "<=" | ">" | "<" | "=="

Scores are what publishers claim in cards.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from adpm.core.release import Metric
from adpm.errors import UsageError

__all__ = ["Floor", "Preference", "Score", "spell"]

_SCORE: Final = r"(?P<name>[^\s<>=:]+(?: (?!on )[^\s<>=:]+)*?)(?: on (?P<place>[^\s<>=]+))?"
_FLOOR: Final = re.compile(
    rf"{_SCORE}\s*(?P<operator>>=|<=|==|>|<)\s*(?P<bound>-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?)\Z"
)
_PREFERENCE: Final = re.compile(rf"metric:{_SCORE}(?P<lowest> lowest)?\Z")
_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of a name; where ``place`` is given, those on it."""

    name: str
    place: str | None = None

    def values(self, metrics: Iterable[Metric]) -> list[float]:
        """The scores meant, in the publisher's order."""
        return [m.value for m in metrics if m.name == self.name and self.place in {None, m.dataset, _place(m)}]

    def __str__(self) -> str:
        return self.name if self.place is None else f"{self.name} on {self.place}"


def _place(metric: Metric) -> str | None:
    return f"{metric.dataset}/{metric.split}" if metric.dataset and metric.split else None


@dataclass(frozen=True, slots=True)
class Floor:
    """What a release's scores must reach; one that does not have such a score does not."""

    score: Score
    operator: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the grammar above; ``UsageError`` (``metric-invalid``)."""
        match = _FLOOR.match(" ".join(text.split())) if len(text) <= _CHARACTERS else None
        if match is None or not math.isfinite(float(match["bound"])):
            raise UsageError(
                "metric-invalid",
                f"{text[:80]!r} does not say which score a release must reach",
                hint="write it as: accuracy on sst-2/validation >= 0.92",
            )
        return cls(Score(match["name"], match["place"]), match["operator"], float(match["bound"]))

    def holds(self, metrics: Iterable[Metric]) -> bool:
        """Whether there is such a score, and each one does."""
        values = self.score.values(metrics)
        return bool(values) and all(_OPERATORS[self.operator](value, self.bound) for value in values)

    def __str__(self) -> str:
        return f"{self.score} {self.operator} {spell(self.bound)}"


@dataclass(frozen=True, slots=True)
class Preference:
    """The release with the highest score, or the ``lowest``, is preferred; those without one come last."""

    score: Score
    lowest: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the grammar above; ``UsageError`` (``metric-invalid``)."""
        match = _PREFERENCE.match(" ".join(text.split())) if len(text) <= _CHARACTERS else None
        if match is None:
            raise UsageError(
                "metric-invalid",
                f"{text[:80]!r} does not say what is preferred",
                hint="write it as: metric:accuracy, 'metric:accuracy on sst-2/validation' or 'metric:loss lowest'",
            )
        return cls(Score(match["name"], match["place"]), match["lowest"] is not None)

    def rank(self, metrics: Iterable[Metric]) -> float:
        """Higher is preferred; minus infinity without a score. Of several the first counts."""
        value = next(iter(self.score.values(metrics)), None)
        if value is None:
            return -math.inf
        return -value if self.lowest else value

    def __str__(self) -> str:
        return f"metric:{self.score}{' lowest' if self.lowest else ''}"


def spell(value: float) -> str:
    """``0.92``, ``1``: the shortest text that reads back as ``value``."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
