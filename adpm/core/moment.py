"""Moments and ages: until when releases count (``exclude-newer``).

    cutoff = DATE                     2026-01-31              that day and all before it, in UTC
           | DATE "T" TIME ZONE       2026-01-31T12:00:00Z    RFC 3339; ``Z`` or an offset such as ``+02:00``
           | AGE                      P7D  P2W  P1DT12H       ISO 8601, without years and months: so long before now

What a cutoff allows is what was published before its *moment*. Moments are texts such as ``2026-02-01T00:00:00Z``: in
UTC, of whole seconds, so that they sort as they follow each other.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from adpm.errors import UsageError

__all__ = ["cutoff", "moment_of", "moment_text"]

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_AGE: Final = re.compile(
    r"P(?:(?P<weeks>[0-9]{1,6})W)?(?:(?P<days>[0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,6})M)?(?:(?P<seconds>[0-9]{1,6})S)?)?\Z"
)


def cutoff(text: str) -> str:
    """``text`` in canonical form: a date or an age as it is, a time in UTC. ``UsageError`` (``moment-invalid``)."""
    moment = moment_of(text, datetime.max.replace(tzinfo=UTC))
    return moment if _TIME.match(text) else text


def moment_of(text: str, now: datetime) -> str:
    """The moment that ``text`` means at ``now``, which only an age asks for."""
    try:
        if _DATE.match(text):
            day = date.fromisoformat(text) + timedelta(days=1)
            return moment_text(datetime(day.year, day.month, day.day, tzinfo=UTC))
        if _TIME.match(text):
            return moment_text(datetime.fromisoformat(text.upper()))
        age = _AGE.match(text)
        if age is not None and any(age.groups()):
            parts = {unit: int(count) for unit, count in age.groupdict().items() if count is not None}
            return moment_text(now - timedelta(**parts))
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        "moment-invalid",
        f"{text[:80]!r} is neither a date, nor a time, nor an age",
        hint="write 2026-01-31, 2026-01-31T12:00:00Z, or an age in weeks, days, hours, minutes or seconds: P7D, PT12H",
    )


def moment_text(time: datetime) -> str:
    """``time``, which has a zone, in UTC; parts of a second are dropped."""
    return time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
