"""Connections to a server that are kept for further requests."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util import parse_url

from adpm.core.settings import connections
from adpm.net.patience import Patience
from adpm.net.proxy import Proxy
from adpm.net.trust import trusting
from adpm.net.wire import Head, write_request

__all__ = ["Pool", "Response"]


class Pool:
    """Connections to one origin, or through ``proxy``. No retries, no redirects: the client decides on those.

    Threads share it without a lock, since ``append`` and ``pop`` of a list are atomic: with one, sixteen threads spend
    more time on waiting for it than on their requests.
    """

    def __init__(self, origin: tuple[str, str, int], patience: Patience, proxy: Proxy | None = None) -> None:
        self._scheme, host, self._port = origin
        self._host = host if host.isascii() else host.encode("idna").decode()
        self._patience = patience
        self._proxy = proxy
        basic = None if proxy is None or proxy.login is None else proxy.login.basic()
        self._proxy_headers = {} if basic is None else {"Proxy-Authorization": basic}
        # One for all: reading certificates takes longer than a request.
        self._context = trusting() if self._scheme == "https" else None
        self._most = connections()
        self._idle: list[HTTPConnection] = []
        weakref.finalize(self, _close, self._idle)

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None = None) -> Response:
        """Send a request for ``url`` and read the head of the answer, which is to be released.

        Raises ``OSError``, ``urllib3.exceptions.HTTPError`` and ``http.client.HTTPException`` for what goes wrong;
        ``ProxyError`` of the second kind where it was not the server that did.
        """
        target = _path(url)
        if self._proxy is not None and self._scheme == "http":  # it passes requests on, not bytes
            target, headers = f"http://{self._place()}{target}", {**self._proxy_headers, **headers}
        over = self._connection()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # who hangs up while a body is sent may have said why
                write_request(over, method, target, headers, body)
            return Response(over, method, self._patience, self)
        except BaseException:
            over.close()
            raise

    def keep(self, over: HTTPConnection) -> None:
        """Take a connection over which all was read that was asked for."""
        if len(self._idle) < self._most:
            self._idle.append(over)
        else:
            over.close()

    def close(self) -> None:
        """Close the connections that wait."""
        _close(self._idle)

    def _connection(self) -> HTTPConnection:
        while self._idle:
            try:
                over = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if over.is_connected:  # servers close what waits for long
                return over
            over.close()
        over = self._new()
        try:
            over.connect()
            over.sock.settimeout(self._patience.read)
        except (OSError, HTTPError) as error:
            ours = self._proxy is None or over.has_connected_to_proxy
            over.close()
            if ours:
                raise
            raise ProxyError("the proxy does not let us through", error) from error
        except BaseException:
            over.close()
            raise
        return over

    def _place(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def _new(self) -> HTTPConnection:
        options: dict[str, Any] = {"timeout": self._patience.connect}
        if self._context is not None:
            options["ssl_context"] = self._context
        if self._proxy is None:
            return _kind(self._scheme)(self._host, self._port, **options)
        proxy = parse_url(self._proxy.url)
        scheme = proxy.scheme or "http"
        options["proxy"] = proxy
        options["proxy_config"] = ProxyConfig(trusting() if scheme == "https" else None, False, None, None)
        kind = _kind("https" if "https" in {scheme, self._scheme} else "http")
        over = kind(str(proxy.host), proxy.port or (443 if scheme == "https" else 80), **options)
        if self._scheme == "https":
            over.set_tunnel(self._host, self._port, self._proxy_headers, scheme=scheme)
        return over


def _close(idle: list[HTTPConnection]) -> None:
    while idle:
        idle.pop().close()


class Response(Head):
    """An answer, and the connection that it comes over."""

    def __init__(self, over: HTTPConnection, method: str, patience: Patience, pool: Pool) -> None:
        super().__init__(over.sock, method, patience)
        self._over = over
        self._pool = pool

    def release(self) -> None:
        """End it: its connection serves another if all was read, and is closed if not."""
        whole = (self.isclosed() or self.length == 0) and not self.will_close
        self.close()
        if whole:
            self._pool.keep(self._over)
        else:
            self._over.close()


def _kind(scheme: str) -> type[HTTPConnection]:
    return HTTPSConnection if scheme == "https" else HTTPConnection


def _path(url: str) -> str:
    """Path and query: what a server is asked for."""
    rest = url.partition("#")[0].partition("://")[2]
    start = next((i for i, char in enumerate(rest) if char in "/?"), len(rest))
    return rest[start:] if rest[start : start + 1] == "/" else f"/{rest[start:]}"
