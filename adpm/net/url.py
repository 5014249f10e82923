"""What of a URL matters to credentials, and what of it may be shown."""

from __future__ import annotations

import re
import string
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from adpm.errors import UsageError

__all__ = ["checked", "encoded", "host_port", "origin", "shown"]

_TO_ENCODE: Final = re.compile(r"[^!-~]")


def checked(url: str) -> str:
    """``url``, if it can be fetched; ``UsageError`` (``url-invalid``) if not."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        parts.netloc.encode("idna")
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            "url-invalid",
            f"{shown(url)!r} is not a URL to fetch from",
            hint="a URL looks like https://example.org/adapters",
        )
    if "@" in parts.netloc:
        raise UsageError(
            "url-invalid",
            f"the URL {shown(url)!r} has a user name or password in it",
            cause="a URL is written to adapter.yaml, where others read it",
            hint=f"write it without, and run 'adpm login {parts.netloc.rpartition('@')[2]}'",
        )
    return url


def encoded(url: str) -> str:
    """``url`` with path and query as a request can hold them: ASCII without spaces."""
    if _TO_ENCODE.search(url) is None:
        return url
    parts = urlsplit(url)
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


@lru_cache(maxsize=256)  # of one request it is asked several times
def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def host_port(url: str) -> str:
    """``HOST:PORT`` of a URL: what a login is for."""
    _, host, port = origin(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown(url: str) -> str:
    """``url`` for people: without user, password and fragment; of a query, which may hold a signature, only a mark."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition(":")[0] + ":..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "..." if parts.query else "", ""))
