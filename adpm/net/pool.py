"""Connections to a server that are kept for further requests."""

from __future__ import annotations

import select
import weakref
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTP_PORT, HTTPS_PORT, HTTPConnection, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit

from adpm.core.settings import connections
from adpm.limits import SEND_BYTES
from adpm.net.faults import ConnectError
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
        name = f"[{host}]" if ":" in host else self._host
        usual = HTTPS_PORT if self._scheme == "https" else HTTP_PORT
        self._authority = name if self._port == usual else f"{name}:{self._port}"
        self._patience = patience
        self._proxy = proxy
        # One for all: reading certificates takes longer than a request.
        self._context = trusting() if self._scheme == "https" else None
        self._most = connections()
        self._idle: list[HTTPConnection] = []
        weakref.finalize(self, _close, self._idle)

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None = None) -> Response:
        """Send a request for ``url`` and read the head of the answer, which is to be released.

        Raises ``ConnectError``, and ``OSError`` and ``http.client.HTTPException`` for what goes wrong later.
        """
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": self._authority, **headers}
        if self._proxy is not None and self._scheme == "http":  # it passes requests on, not bytes
            target, headers = f"http://{self._authority}{target}", self._proxy.headers() | headers
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
        with suppress(IndexError):
            while True:
                over = self._idle.pop()
                if not _stirs(over):
                    return over
                over.close()
        over = self._connected()
        over.sock.settimeout(self._patience.read)
        return over

    def _connected(self) -> HTTPConnection:
        options: dict[str, Any] = {"timeout": self._patience.connect, "blocksize": SEND_BYTES}
        if self._proxy is not None:
            from adpm.net.tunnel import through  # noqa: PLC0415 - urllib3 takes 20 ms, and few are behind a proxy

            return through(self._proxy, self._host, self._port, self._context, options)
        if self._context is None:
            over = HTTPConnection(self._host, self._port, **options)
        else:
            over = HTTPSConnection(self._host, self._port, context=self._context, **options)
        try:
            over.connect()
        except OSError as error:
            over.close()
            raise ConnectError(error) from error
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


def _stirs(over: HTTPConnection) -> bool:
    """Whether there is something to read where nothing was asked for: servers close what waits for long."""
    poll = select.poll()
    poll.register(over.sock, select.POLLIN)
    return bool(poll.poll(0))
