"""Who may use a server: the ``Authorization`` of each request, and what to do when a server asks for another."""

from __future__ import annotations

from threading import Lock
from typing import Protocol
from urllib.parse import urlsplit

from adpm.net.credentials import Credentials, Login, variable
from adpm.net.url import host_port

__all__ = ["Authority", "PerHost", "way_in"]


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

    def login(self, url: str) -> Login | None:
        """As whom requests are made."""
        ...


class PerHost:
    """One login a host and port, which ``credentials`` is asked for once, and again when a server refuses it."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._known: dict[str, Login | None] = {}
        self._lock = Lock()  # one thread asks, a keyring perhaps; the others wait for what it hears

    def authorization(self, method: str, url: str) -> str | None:  # noqa: ARG002 - an Authority
        login = self.login(url)
        return None if login is None else login.header()

    def challenged(self, method: str, url: str, challenges: str, sent: str | None) -> bool:  # noqa: ARG002
        """Look again: a program that runs for days need not be restarted after ``adpm login``."""
        with self._lock:
            self._known.pop(host_port(url), None)
        return self.authorization(method, url) not in {None, sent}

    def login(self, url: str) -> Login | None:
        host = host_port(url)
        with self._lock:
            if host not in self._known:
                self._known[host] = self._credentials(host)
            return self._known[host]


def way_in(url: str, login: Login | None) -> str:
    """What one can do who is not let in at ``url``."""
    place = urlsplit(url).netloc
    if login is None:
        return f"run 'adpm login {place}'; in CI, set {variable('TOKEN', place)}"
    if login.source.startswith("$"):
        return f"if it has expired or is wrong, put the right one into {login.source}"
    return f"if it has expired or is wrong, run 'adpm login {place}'"
