"""Floors and preferences of scores."""

from __future__ import annotations

import math

import pytest

from adpm.core.metrics import Floor, Preference
from adpm.core.release import Metric
from adpm.errors import UsageError

SCORES = (
    Metric("accuracy", 0.9, "sst-2", "test"),
    Metric("accuracy", 0.94, "sst-2", "validation"),
    Metric("exact match", 80, "squad"),
    Metric("loss", 0.2),
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy on sst-2/validation >= 0.92", True),
        ("accuracy on sst-2/validation>=0.94", True),
        ("accuracy on sst-2/validation > 0.94", False),
        ("accuracy >= 0.92", False),
        ("accuracy >= 0.9", True),
        ("accuracy on sst-2 >= 0.91", False),
        ("accuracy on imdb >= 0.1", False),
        ("f1 >= 0", False),
        ("exact match on squad == 80", True),
        ("loss < 2.5e-1", True),
        ("loss <= 0.1", False),
    ],
)
def test_floors(text: str, holds: bool) -> None:
    floor = Floor.parse(text)
    assert floor.holds(SCORES) is holds
    assert Floor.parse(str(floor)) == floor


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("metric:accuracy", 0.9),
        ("metric:accuracy on sst-2/validation", 0.94),
        ("metric:loss lowest", -0.2),
        ("metric:exact match on squad", 80),
        ("metric:f1", -math.inf),
        ("metric:f1 lowest", -math.inf),
    ],
)
def test_preferences(text: str, rank: float) -> None:
    preference = Preference.parse(text)
    assert preference.rank(SCORES) == rank
    assert Preference.parse(str(preference)) == preference


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy >=", ">= 1", "accuracy >= x", "a >= 1e999", "a => 1", "a" * 300 + " > 1"]
)
def test_what_is_no_floor(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Floor.parse(text)
    assert caught.value.code == "metric-invalid"


@pytest.mark.parametrize(
    "text", ["", "accuracy", "metric:", "metric: ", "metric:a >= 1", "metrics:a", "metric:" + "a" * 300]
)
def test_what_is_no_preference(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preference.parse(text)
    assert caught.value.code == "metric-invalid"
