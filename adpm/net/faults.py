"""What a server's refusal, or its silence, means: one place that turns both into errors."""

from __future__ import annotations

import email.utils
import time
from http import HTTPStatus
from typing import Final, Protocol

import urllib3.exceptions

from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError
from adpm.net.url import origin, shown

__all__ = ["TransientError", "of_exception", "of_status", "retry_after", "too_large"]

_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class TransientError(Exception):
    """Worth another try. ``error`` is raised when there is none left; ``pause`` is what the server asked for, in s."""

    def __init__(self, error: AdpmError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


class _Response(Protocol):
    status: int

    @property
    def headers(self) -> urllib3.HTTPHeaderDict: ...


def of_status(response: _Response, url: str, way_in: str) -> AdpmError | TransientError:
    """The error for an answer that is no success; ``way_in`` is what a user can do who was refused."""
    status = response.status
    said = f"HTTP {status} {_phrase(status)}".rstrip()
    if status in {401, 403}:
        host = origin(url)[1]
        refused = "asks for credentials" if status == 401 else "refused access"
        return LoginNeededError(
            "login-needed",
            f"{host} {refused}",
            cause=f"{shown(url)}: {said}",
            hint=way_in,
            url=shown(url),
        )
    if status in {404, 410}:
        return NotFoundError("url-not-found", f"{shown(url)} does not exist", cause=said, url=shown(url))
    error = NetworkError(
        "http-status",
        f"{origin(url)[1]} could not answer",
        cause=f"{shown(url)}: {said}",
        hint="run the command again later; if it stays so, ask who runs that server",
        url=shown(url),
        status=status,
    )
    return (
        TransientError(error, retry_after(response.headers.get("Retry-After", ""))) if status in _TRY_AGAIN else error
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def retry_after(header: str) -> float | None:
    """Seconds from a ``Retry-After`` header: a number or a date; None where there is none that can be read."""
    value = header.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    moment = email.utils.parsedate_tz(value) if value else None
    return None if moment is None else max(0.0, email.utils.mktime_tz(moment) - time.time())


def of_exception(error: Exception, url: str) -> AdpmError | TransientError:
    """The error for a connection that could not be made (no second try), or that broke (worth one)."""
    host = origin(url)[1]
    lasting: str | None = None
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        lasting, hint = "its name is not known", f"check the spelling of {host!r} and your network"
    elif isinstance(error, urllib3.exceptions.SSLError):
        lasting, hint = f"no secure connection: {error}", "if the server has its own CA, set SSL_CERT_FILE to its file"
    elif isinstance(error, urllib3.exceptions.NewConnectionError):
        lasting, hint = "it takes no connection", "check the address and your network, or that the server runs"
    else:
        hint = "run the command again: what has arrived whole is kept"
    cause = lasting or _broken(error)
    out = NetworkError("network-failed", f"could not talk to {host}", cause=f"{shown(url)}: {cause}", hint=hint)
    return out if lasting else TransientError(out)


def _broken(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it did not answer in time"
    return f"the connection broke ({type(error).__name__})"


def too_large(url: str, limit: int) -> NetworkError:
    return NetworkError(
        "response-too-large",
        f"{origin(url)[1]} sent too much",
        cause=f"{shown(url)} has more than {limit} bytes",
        hint="the address is wrong, or the server is broken or hostile",
        limit=limit,
    )
