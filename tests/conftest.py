"""Hypothesis runs without a deadline: no test asserts on time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("adpm", deadline=None)
settings.load_profile("adpm")
