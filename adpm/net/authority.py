"""Who may use a server: the ``Authorization`` of each request, and what to do when a server asks for another."""

from __future__ import annotations

import functools
from typing import Protocol

from adpm.net.credentials import Credentials
from adpm.net.url import origin

__all__ = ["Authority", "PerHost"]


class Authority(Protocol):
    """Asked by ``Client`` for the origin of the URL that its caller named, never for where that redirects.

    Threads share it.
    """

    def authorization(self, method: str, url: str) -> str | None:
        """The header's value for a request, or None to send none."""
        ...

    def challenged(self, method: str, url: str, challenges: str, sent: str | None) -> bool:
        """A request that carried ``sent`` was answered 401 with ``challenges`` (``WWW-Authenticate``): whether
        ``authorization`` now says something better. Asked once a request."""
        ...

    def hint(self, url: str) -> str:
        """What a user can do about a refusal."""
        ...


class PerHost:
    """One header a host, which ``credentials`` is asked for once."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = functools.cache(credentials)

    def authorization(self, method: str, url: str) -> str | None:  # noqa: ARG002 - an Authority
        return self._credentials(origin(url)[1])

    def challenged(self, method: str, url: str, challenges: str, sent: str | None) -> bool:  # noqa: ARG002
        return False

    def hint(self, url: str) -> str:
        return (
            f"put 'machine {origin(url)[1]} login USER password SECRET' into ~/.netrc; if it is there, check that this "
            "user may read this address"
        )
