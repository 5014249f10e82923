"""Logins, and where they are looked for: the environment, and ``~/.netrc``."""

from __future__ import annotations

import base64
import netrc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adpm.errors import DocumentError, Fault, UsageError

__all__ = [
    "Credentials",
    "Login",
    "anonymous",
    "checked_login",
    "discreet",
    "environment_login",
    "netrc_login",
    "places",
    "variable",
]


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password. Without a user, ``secret`` is a bearer token; if ``identity``, one that is good for the
    token service of an OCI registry alone. ``source`` says where it was found, for people.
    """

    user: str | None
    secret: str = field(repr=False)
    source: str = field(default="", compare=False)
    identity: bool = False

    def header(self) -> str | None:
        """The ``Authorization`` header that says it; None where none does."""
        if self.identity:
            return None
        return f"Bearer {self.secret}" if self.user is None else self.basic()

    def basic(self) -> str | None:
        """The header for basic authentication; None without a user."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")

    def __str__(self) -> str:
        who = "a token" if self.user is None else f"user {self.user!r}"
        return f"{who} (from {self.source})" if self.source else who


Credentials = Callable[[str], Login | None]
"""``HOST:PORT`` to the login for it, or None."""


def anonymous(_: str) -> None:
    """Nobody: no host gets a login."""


def places(host: str) -> Iterator[str]:
    """Under which names the login for ``HOST:PORT`` may be kept: with the port, then, for any port, without."""
    yield host
    name = re.sub(r":[0-9]+\Z", "", host)
    if name != host:
        yield name


def variable(kind: str, place: str) -> str:
    """The environment variable for ``place`` (``HOST`` or ``HOST:PORT``): ``ADPM_TOKEN_ADAPTERS_EXAMPLE_COM_8443``.

    ``kind`` is ``TOKEN``, ``USER`` or ``PASSWORD``. A hyphen becomes two underscores, so that no two hosts share one.
    """
    return f"ADPM_{kind}_" + re.sub(r"[^A-Z0-9]", "_", place.upper().replace("-", "__"))


def environment_login(host: str) -> Login | None:
    """The login for ``HOST:PORT`` in ``$ADPM_TOKEN_HOST``, or ``$ADPM_USER_HOST`` with ``$ADPM_PASSWORD_HOST``.

    Raises ``UsageError`` (``login-invalid``).
    """
    for place in places(host):
        token, user, password = (_value(variable(kind, place)) for kind in ("TOKEN", "USER", "PASSWORD"))
        if token:
            return checked_login(None, token, f"${variable('TOKEN', place)}")
        if user and password:
            return checked_login(user, password, f"${variable('PASSWORD', place)}")
        if user or password:
            there, lacking = ("USER", "PASSWORD") if user else ("PASSWORD", "USER")
            raise UsageError(
                "login-invalid",
                f"${variable(there, place)} is set, and ${variable(lacking, place)} is not",
                hint="set both, or neither",
            )
    return None


def _value(name: str) -> str:
    return os.environ.get(name, "").rstrip("\r\n")  # what a file of secrets ends with is no part of one


def checked_login(user: str | None, secret: str, source: str) -> Login:
    """A login that a header can hold; ``UsageError`` (``login-invalid``), which shows no secret, where none can."""
    fault = None
    if not secret:
        fault = "it is empty"
    elif user is None:
        fault = None if re.fullmatch(r"[!-~]+", secret) else "a token has no spaces and nothing but ASCII"
    elif ":" in user or not user.isprintable() or not user:
        fault = "a user's name is not empty, and has no colon and no control characters"
    elif not secret.isprintable():
        fault = "it has control characters, or bytes that are no text"
    if fault is not None:
        raise UsageError(
            "login-invalid", f"the login from {source} can't be used", cause=fault, hint="give it whole, in one line"
        )
    return Login(user, secret, source)


def netrc_login(host: str) -> Login | None:
    """The login for ``HOST:PORT`` in ``$NETRC`` or ``~/.netrc``, which knows no ports; None where there is none.

    Raises ``UsageError`` (``netrc-invalid``).
    """
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    *_, name = places(host)
    try:
        found = netrc.netrc(str(path)).authenticators(name.strip("[]"))
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "netrc-invalid", f"could not read {path}", cause=_why(error), hint="fix that file, or move it away"
        ) from None  # the error itself quotes the file
    if found is None:
        return None
    login, _, password = found
    return Login(login, password or "", str(path))


def _why(error: Exception) -> str:
    if isinstance(error, netrc.NetrcParseError):
        permissions = "permission" in error.msg or "owner" in error.msg  # the only faults that quote no word of it
        return error.msg if permissions else f"line {error.lineno} is not understood"
    return "it is no text" if isinstance(error, UnicodeDecodeError) else str(error)


@contextmanager
def discreet() -> Iterator[None]:
    """Faults of a document that holds secrets are reported by their place, not by what stands there."""
    try:
        yield
    except DocumentError as error:
        faults = [Fault(fault.path, "is not what it should be", fault.line) for fault in error.faults]
        code = error.code
        raise DocumentError(code, error.source, faults, hint=error.hint) from None
