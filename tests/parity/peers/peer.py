"""Where a peer is installed."""

from __future__ import annotations

import os

import pytest

__all__ = ["peer"]


def peer(variable: str) -> str:
    """The Python that the environment's ``variable`` names, which has the peer; the test is skipped without it."""
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"${variable} names no Python of an environment with the peer")
    return found
