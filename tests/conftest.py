"""Hypothesis runs without a deadline, as no test asserts on time; torch has one thread, as workers share the cores; no
test uses the logins of who runs it."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core; torch must not take them all
settings.register_profile("adpm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("adpm")

os.environ["ADPM_CREDENTIALS"] = "/nonexistent/adpm/credentials.json"
