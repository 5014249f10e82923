"""Settings from the environment that more than one layer needs."""

from __future__ import annotations

import os

from adpm import limits
from adpm.errors import UsageError

__all__ = ["connections"]


def connections() -> int:
    """How many requests one process has under way at most: ``$ADPM_CONNECTIONS``, else ``limits.CONNECTIONS``.

    Raises ``UsageError`` (``setting-invalid``).
    """
    value = os.environ.get("ADPM_CONNECTIONS", "")
    if not value:
        return limits.CONNECTIONS
    if value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= limits.CONNECTIONS_MOST:
        return int(value)
    raise UsageError(
        "setting-invalid",
        f"ADPM_CONNECTIONS is {value!r}",
        cause=f"it must be a number from 1 to {limits.CONNECTIONS_MOST}",
        hint=f"unset it: {limits.CONNECTIONS} is used then",
    )
