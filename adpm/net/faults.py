"""What a server's refusal, or its silence, means: one place that turns both into errors."""

from __future__ import annotations

import email.utils
import re
import socket
import ssl
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError
from adpm.net.authority import way_in
from adpm.net.credentials import Login
from adpm.net.proxy import Proxy, proxy_failed, proxy_for
from adpm.net.trust import CERTIFICATE_HINT
from adpm.net.url import origin, shown
from adpm.net.wire import Head

__all__ = [
    "ConnectError",
    "TransientError",
    "of_exception",
    "of_status",
    "refused_elsewhere",
    "retry_after",
    "too_large",
]

_TUNNEL: Final = re.compile(r"Tunnel connection failed: ([0-9]{3})")  # how http.client puts it
_BREAKING: Final = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class ConnectError(Exception):
    """There is no connection, because of ``reason``; ``by_proxy``: the proxy's, not the server's."""

    def __init__(self, reason: Exception, *, by_proxy: bool = False) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.by_proxy = by_proxy


class TransientError(Exception):
    """Worth another try. ``error`` is raised when there is none left; ``pause`` is what the server asked for, in s."""

    def __init__(self, error: AdpmError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def of_status(response: Head, url: str, login: Login | None) -> AdpmError | TransientError:
    """The error for an answer that is no success, to one who came with ``login``."""
    status = response.status
    said = f"HTTP {status} {_phrase(status)}".rstrip()
    if status == HTTPStatus.UNAUTHORIZED:
        place = urlsplit(url).netloc
        return LoginNeededError(
            "login-needed",
            f"{place} wants a login" if login is None else f"{place} does not accept the login of {login}",
            cause=f"{shown(url)}: {said}" + ("; adpm has no login for it" if login is None else ""),
            hint=way_in(url, login),
            url=shown(url),
        )
    if status == HTTPStatus.FORBIDDEN:
        who = "somebody without a login" if login is None else str(login)
        return LoginNeededError(
            "access-denied",
            f"{urlsplit(url).netloc} does not let {who} do this",
            cause=f"{shown(url)}: {said}",
            hint=way_in(url, None)
            if login is None
            else f"ask who runs it to allow that, or log in as somebody else: 'adpm login {urlsplit(url).netloc}'",
            url=shown(url),
            user=None if login is None else login.user,
        )
    proxy = proxy_for(url) if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else None
    if proxy is not None:
        return proxy_failed(proxy, url, status)
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
        TransientError(error, retry_after(response.headers.get("retry-after", ""))) if status in _TRY_AGAIN else error
    )


def refused_elsewhere(status: int, url: str, there: str) -> LoginNeededError:
    """The error for a refusal by another server, to which ``url`` redirected: there, nobody comes with a login."""
    host, other = urlsplit(url).netloc, urlsplit(there).netloc
    return LoginNeededError(
        "access-denied",
        f"{other}, where {host} redirects to, refused access",
        cause=f"{shown(there)}: HTTP {status} {_phrase(status)}",
        hint=f"logins do not follow redirects: use that address itself if it is yours, else ask who runs {host}",
        url=shown(url),
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
    reason = error.reason if isinstance(error, ConnectError) else error
    if isinstance(error, ConnectError) and error.by_proxy and (proxy := proxy_for(url)) is not None:
        return _of_proxy(reason, proxy, url)
    if isinstance(reason, ssl.SSLError):
        return _of_tls(reason, url)
    host = origin(url)[1]
    lasting: str | None = None
    if isinstance(reason, socket.gaierror):
        lasting, hint = "its name is not known", f"check the spelling of {host!r} and your network"
    elif isinstance(error, ConnectError) and not isinstance(reason, _BREAKING):
        lasting, hint = "it takes no connection", "check the address and your network, or that the server runs"
    else:
        hint = "run the command again: what has arrived whole is kept"
    cause = lasting or _broken(reason)
    out = NetworkError("network-failed", f"could not talk to {host}", cause=f"{shown(url)}: {cause}", hint=hint)
    return out if lasting else TransientError(out)


def _of_proxy(reason: Exception, proxy: Proxy, url: str) -> AdpmError | TransientError:
    refused = _TUNNEL.search(str(reason))
    status = int(refused[1]) if refused else None
    out = proxy_failed(proxy, url, status)
    passing = status in _TRY_AGAIN or isinstance(reason, TimeoutError)
    return TransientError(out) if passing else out


def _of_tls(reason: ssl.SSLError, url: str) -> NetworkError:
    """What is wrong with a certificate, in words; or that there is no TLS at all."""
    host = urlsplit(url).netloc
    if not isinstance(reason, ssl.SSLCertVerificationError):
        plain = reason.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
        return NetworkError(
            "network-failed",
            f"could not talk to {host}",
            cause=f"{shown(url)}: no secure connection: {'it does not speak TLS' if plain else reason}",
            hint="if it speaks plain HTTP there, write http://" if plain else "ask who runs it, or a proxy on the way",
        )
    code = reason.verify_code
    if code in {9, 10}:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        fault = "has expired" if code == 10 else "is not valid yet"
        hint = "ask who runs it; and look whether this machine's clock is right"
    elif code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        fault, hint = "is for other names", "use the name that it is for, or ask who runs it"
    else:
        fault, hint = "is signed by nobody whom this machine trusts", CERTIFICATE_HINT
    return NetworkError(
        "certificate-invalid",
        f"the certificate of {host} {fault}",
        cause=f"{shown(url)}: no secure connection: {reason.verify_message}",
        hint=hint,
    )


def _broken(error: Exception) -> str:
    if isinstance(error, TimeoutError):
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
