"""Where the store lies."""

from __future__ import annotations

import os

__all__ = ["home"]


def home() -> str:
    """``$ADPM_HOME``; where that is not set or empty, adpm's directory in the platform's cache."""
    path = os.environ.get("ADPM_HOME")
    if path:
        return os.path.abspath(os.path.expanduser(path))
    from platformdirs import user_cache_dir  # noqa: PLC0415 - costs more than the rest of a no-op install

    return user_cache_dir("adpm")
