"""Connections through a proxy, by urllib3: http.client knows no TLS within TLS."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPException
from typing import Any

from urllib3 import connection, exceptions
from urllib3.util import parse_url

from adpm.net.faults import ConnectError
from adpm.net.proxy import Proxy
from adpm.net.trust import trusting

__all__ = ["through"]


def through(
    proxy: Proxy, host: str, port: int, context: ssl.SSLContext | None, options: dict[str, Any]
) -> HTTPConnection:
    """A connection to ``proxy``, which passes requests on; with a ``context`` a tunnel through it to ``host`` and TLS.

    ``options`` are http.client's. Raises ``ConnectError``.
    """
    address = parse_url(proxy.url)
    scheme = address.scheme or "http"
    trust = trusting() if scheme == "https" else None
    given = {**options, "proxy": address, "proxy_config": connection.ProxyConfig(trust, False, None, None)}
    if context is not None:
        given["ssl_context"] = context
    plain = context is None and trust is None
    kind = connection.HTTPConnection if plain else connection.HTTPSConnection
    over = kind(str(address.host), address.port or (443 if scheme == "https" else 80), **given)
    if context is not None:
        over.set_tunnel(host, port, proxy.headers(), scheme=scheme)
    try:
        over.connect()
    except (OSError, HTTPException, exceptions.HTTPError) as error:
        by_proxy = not over.has_connected_to_proxy
        over.close()
        late = isinstance(error, exceptions.TimeoutError)
        raise ConnectError(TimeoutError(str(error)) if late else error, by_proxy=by_proxy) from error
    return over
