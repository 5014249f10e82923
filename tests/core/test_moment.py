"""Dates, times and ages as cutoffs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm.core.moment import cutoff, moment_of, moment_text
from adpm.errors import UsageError

NOW = datetime(2026, 3, 10, 12, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", "2026-02-01T00:00:00Z"),
        ("2024-02-29", "2024-03-01T00:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.75+02:00", "2026-01-31T10:00:00Z"),
        ("2026-01-31T23:30:00-01:00", "2026-02-01T00:30:00Z"),
        ("P7D", "2026-03-03T12:30:15Z"),
        ("P1W", "2026-03-03T12:30:15Z"),
        ("P1DT12H", "2026-03-09T00:30:15Z"),
        ("PT30M15S", "2026-03-10T12:00:00Z"),
        ("P0D", "2026-03-10T12:30:15Z"),
    ],
)
def test_a_cutoff_means_a_moment(text: str, moment: str) -> None:
    assert moment_of(text, NOW) == moment
    assert cutoff(cutoff(text)) == cutoff(text)
    assert moment_of(cutoff(text), NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "P", "PT", "P1DT", "7 days", "P1Y", "P1M", "P-1D", "P1.5D", "-P1D", "p7d"),
        *("2026-1-31", "2026-02-30", "20260131", "2026-01-31T12:00", "2026-01-31T12:00:00", "2026-01-31T25:00:00Z"),
        *("9999-12-31", "P999999W", "P9999999D", "0001-01-01T00:00:00+02:00", "2026-01-31T12:00:00+99:00"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment_of(text, NOW)
    assert caught.value.code == "moment-invalid"


@given(st.datetimes(min_value=datetime(2, 1, 1)), st.datetimes(min_value=datetime(2, 1, 1)))
def test_moments_sort_as_they_follow_each_other(one: datetime, other: datetime) -> None:
    first, second = (time.replace(tzinfo=UTC, microsecond=0) for time in (one, other))
    assert (moment_text(first) < moment_text(second)) == (first < second)


@given(st.integers(0, 999), st.integers(0, 999))
def test_ages_are_so_long_before_now(days: int, hours: int) -> None:
    expected = moment_text(NOW - timedelta(days=days, hours=hours))
    assert moment_of(f"P{days}DT{hours}H", NOW) == expected
