"""Working without a network, because the user wants to."""

from __future__ import annotations

import os
from typing import Final

from adpm.errors import NetworkError

__all__ = ["VARIABLE", "is_offline", "refuse_if_offline"]

VARIABLE: Final = "ADPM_OFFLINE"
_OFF: Final = frozenset({"", "0", "false", "no", "off", "n", "f"})


def is_offline() -> bool:
    """Whether ``$ADPM_OFFLINE`` says so: anything but empty, ``0``, ``false``, ``no`` and ``off``."""
    return os.environ.get(VARIABLE, "").strip().lower() not in _OFF


def refuse_if_offline(what: str) -> None:
    """Raise ``NetworkError`` (``offline``) if the user wants no network, for ``what`` needs it."""
    if is_offline():
        raise NetworkError(
            "offline",
            f"{what} can't be asked",
            cause=f"${VARIABLE} is set, and it does not lie on this machine",
            hint=f"run the command once without {VARIABLE}; 'adpm install' of what is in the store works with it",
        )
