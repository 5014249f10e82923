"""A setting that differs between modules: PEFT's ``rank_pattern`` and its like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["by_pattern"]

T = TypeVar("T", int, float)


def by_pattern(patterns: Iterable[tuple[str, T]], name: str, default: T) -> T:
    """The value of the first regular expression that matches the end of a module's ``name``."""
    for pattern, value in patterns:
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
