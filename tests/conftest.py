"""Hypothesis runs without a deadline: no test asserts on time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("adpm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("adpm")
