"""Clients with little patience, closed when their test ends."""

from __future__ import annotations

from adpm.net.client import Client
from adpm.net.credentials import Credentials
from adpm.net.patience import Patience

HASTY = Patience(connect=2.0, read=0.3, stall=0.3, stall_bytes=100, retries=2, pause=0.001, pause_most=0.05)
_made: list[Client] = []


def anonymous(_: str) -> None:
    return None


def hasty(credentials: Credentials = anonymous) -> Client:
    client = Client(HASTY, credentials)
    _made.append(client)
    return client


def close_all() -> None:
    while _made:
        _made.pop().close()
