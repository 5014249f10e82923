"""What can be told of the way to a web server."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

from adpm.net.client import Client
from adpm.net.credentials import anonymous
from adpm.net.proxy import proxy_for
from adpm.registry.place import Ability

__all__ = ["way_to"]

_SCHEME: Final = re.compile(r"(?:^|,\s*)([A-Za-z]+)(?=\s|$)")


def way_to(url: str, client: Client) -> Iterator[Ability]:
    """How ``url`` is reached: how fast, how safe, as whom. One request without a login; errors are raised."""
    stranger = Client(credentials=anonymous)
    try:
        began = time.monotonic()
        answer = stranger.exchange("GET", url, good={200, 401, 403, 404})
        took = time.monotonic() - began
    finally:
        stranger.close()
    through = proxy_for(url)
    words = f"in {took * 1000:.0f} ms" + (f", through {through}" if through is not None else "")
    yield Ability("reachable", True, words)
    secure = url.startswith("https:")
    yield Ability(
        "TLS", secure, "its certificate is trusted" if secure else "none: others on the way can read and change all"
    )
    login = client.login(url)
    who = "there is no login for it" if login is None else f"you come as {login}"
    if answer.status in {401, 403}:
        schemes = ", ".join(dict.fromkeys(_SCHEME.findall(answer.headers.get("www-authenticate", "")))) or "a login"
        yield Ability("login", login is not None, f"strangers are asked for {schemes}; {who}")
    else:
        yield Ability("login", None, f"strangers may read; {who}")
