"""Trying again: how often, and after which pause."""

from __future__ import annotations

import random
import time

from adpm import limits
from adpm.net.faults import TransientError
from adpm.net.patience import Patience

__all__ = ["Tries"]


class Tries:
    """The failures of one piece of work so far."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._progress = 0

    def progress(self, size: int) -> None:
        """``size`` bytes have arrived. After ``limits.PROGRESS_BYTES`` of them earlier failures no longer count."""
        self._progress += size
        if self._progress >= limits.PROGRESS_BYTES:
            self._failures = 0

    def wait_or_raise(self, failure: TransientError) -> None:
        """Pause before another try; raise the failure's error if none is left, or the server asks for too long."""
        patience, self._progress = self._patience, 0
        pause = patience.pause * 2**self._failures * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, no secret
        if failure.pause is not None:
            pause = max(pause, failure.pause)
        self._failures += 1
        if self._failures > patience.retries or (failure.pause or 0.0) > patience.pause_most:
            raise failure.error from failure
        time.sleep(pause)
