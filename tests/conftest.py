"""Hypothesis runs without a deadline: no test asserts on time. No test uses the logins of who runs it."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("adpm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("adpm")

os.environ["ADPM_CREDENTIALS"] = "/nonexistent/adpm/credentials.json"
