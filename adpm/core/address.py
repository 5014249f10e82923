"""Addresses of registries as people write them down, and what must not stand in one."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["has_secret"]

_USERINFO: Final = re.compile(r"([a-z0-9+.-]+)://([^/?#\\]*)@", re.IGNORECASE)


def has_secret(url: str) -> bool:
    """Whether ``url`` holds a password, or, where HTTP is spoken, a user, which may be a token."""
    match = _USERINFO.match(url)
    return match is not None and (":" in match[2] or match[1].lower().endswith(("http", "https", "oci")))
