"""How long a client waits, and how often it tries."""

from __future__ import annotations

from dataclasses import dataclass

from adpm import limits

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds. ``stall_bytes`` must arrive in every ``stall`` seconds of waiting, or the connection is dead.

    ``retries`` counts the tries after the first; the ``n``-th waits ``pause * 2**n``, or what the server asks for if
    that is at most ``pause_most``.
    """

    connect: float = limits.CONNECT_TIMEOUT_SECONDS
    read: float = limits.READ_TIMEOUT_SECONDS
    stall: float = limits.STALL_SECONDS
    stall_bytes: int = limits.STALL_BYTES
    retries: int = limits.RETRIES
    pause: float = limits.RETRY_PAUSE_SECONDS
    pause_most: float = limits.RETRY_PAUSE_MAX_SECONDS
