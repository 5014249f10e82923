"""Which proxy a request goes through, as ``curl`` and its kin read it from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed

from adpm.errors import NetworkError, UsageError
from adpm.net.credentials import Login
from adpm.net.url import host_port, shown

__all__ = ["Proxy", "proxy_failed", "proxy_for"]

_LOGIN: Final = "write it as http://USER:PASSWORD@HOST:PORT, special characters of both percent-encoded"


@dataclass(frozen=True, slots=True)
class Proxy:
    """``url`` has no login in it; ``variable`` is where it was named."""

    url: str
    login: Login | None = field(repr=False)
    variable: str = field(compare=False)

    def headers(self) -> dict[str, str]:
        """What it must be told with each request, or to make a tunnel."""
        basic = None if self.login is None else self.login.basic()
        return {} if basic is None else {"Proxy-Authorization": basic}

    def __str__(self) -> str:
        return f"the proxy {self.url} (${self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """The proxy for ``url``: ``HTTPS_PROXY`` or ``HTTP_PROXY``, else ``ALL_PROXY`` (small letters too, and first);
    none for hosts in ``NO_PROXY``. Raises ``UsageError`` (``proxy-invalid``).
    """
    proxies = getproxies_environment()
    scheme = urlsplit(url).scheme
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass_environment(host_port(url)):
        return None
    variable = f"{kind}_proxy" if os.environ.get(f"{kind}_proxy") else f"{kind}_proxy".upper()
    text = proxies[kind]
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            "proxy-invalid",
            f"${variable} names no proxy that can be used: {shown(address)}",
            hint=f"{_LOGIN}; SOCKS is not supported; hosts that need no proxy belong into NO_PROXY",
        )
    host = parts.netloc.rpartition("@")[2]
    login = None if parts.username is None else Login(unquote(parts.username), unquote(parts.password or ""))
    return Proxy(f"{parts.scheme}://{host}", login, variable)


def proxy_failed(proxy: Proxy, url: str, status: int | None) -> NetworkError:
    """The error for a proxy that does not let us through, or is not there (``status`` None)."""
    if status == 407:
        who = "wants a login" if proxy.login is None else f"does not accept the login of {proxy.login}"
        what, hint = f"{proxy} {who}", f"in ${proxy.variable}, {_LOGIN}"
    elif status is None:
        what, hint = f"{proxy} can't be reached", f"correct ${proxy.variable}, or name the host in NO_PROXY"
    else:
        what = f"{proxy} does not lead to {host_port(url)}"
        hint = "ask who runs it, or name the host in NO_PROXY if it needs no proxy"
    said = "" if status is None else f": HTTP {status}"
    return NetworkError("proxy-failed", what, cause=f"{shown(url)}{said}", hint=hint, status=status)
