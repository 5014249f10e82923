"""The pool of connections, each watched for stalls.

A read timeout alone is not enough: a server that sends one byte now and then never triggers it. So every byte of an
answer, headers included, comes in through ``_Watched``.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from adpm.core.settings import connections
from adpm.net.patience import Patience
from adpm.net.proxy import Proxy
from adpm.net.trust import trusting
from adpm.net.wire import Connection, Head, SecureConnection

__all__ = ["make_pool"]


class _Watched(io.RawIOBase):
    """A socket's bytes; ``TimeoutError`` when fewer than they should arrive. Only time spent waiting counts."""

    def __init__(self, raw: io.RawIOBase, patience: Patience) -> None:
        self._raw = raw
        self._patience = patience
        self._waited = 0.0
        self._arrived = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        before = time.monotonic()
        count = self._raw.readinto(buffer)
        self._waited += time.monotonic() - before
        self._arrived += count or 0
        if self._waited > self._patience.stall and count:
            if self._arrived < self._patience.stall_bytes:
                raise TimeoutError(f"only {self._arrived} bytes in {self._waited:.0f} s")
            self._waited, self._arrived = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def make_pool(scheme: str, patience: Patience, proxy: Proxy | None = None) -> urllib3.PoolManager:
    """A pool for ``http`` or ``https``, through ``proxy``. No retries, no redirects: the client decides on those."""

    class WatchedResponse(Head):
        def __init__(self, sock: socket.socket, *args: Any, **keywords: Any) -> None:
            super().__init__(sock, *args, **keywords)
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Watched(raw, patience))

    class Watched(Connection):
        response_class = WatchedResponse

    class SecureWatched(SecureConnection):
        response_class = WatchedResponse

    class Pool(HTTPConnectionPool):
        ConnectionCls = Watched

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureWatched

    options: dict[str, Any] = {}
    if scheme == "https":  # one context for all: reading the machine's certificates takes longer than a request
        options["ssl_context"] = trusting()
    timeout = urllib3.Timeout(connect=patience.connect, read=patience.read)
    options |= {"maxsize": connections(), "timeout": timeout, "retries": False}
    if proxy is None:
        pool = urllib3.PoolManager(**options)
    else:
        basic = None if proxy.login is None else proxy.login.basic()
        pool = urllib3.ProxyManager(
            proxy.url,
            proxy_headers={} if basic is None else {"Proxy-Authorization": basic},
            proxy_ssl_context=trusting() if proxy.url.startswith("https:") else None,
            **options,
        )
    pool.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}
    return pool
