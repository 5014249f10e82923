"""The names of the two files of a project."""

from __future__ import annotations

from typing import Final

__all__ = ["LOCK_FILE", "MANIFEST_FILE"]

MANIFEST_FILE: Final = "adapter.yaml"
LOCK_FILE: Final = "adapter.lock"
