"""Logins, and which ``Authorization`` header a host gets."""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adpm.errors import UsageError

__all__ = ["Credentials", "Login", "anonymous", "from_netrc", "netrc_login"]

Credentials = Callable[[str], str | None]
"""Host name to the value of its ``Authorization`` header, or None."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password; without a user, ``secret`` is an identity token, good for a token service alone."""

    user: str | None
    secret: str = field(repr=False)

    def basic(self) -> str | None:
        """The header for basic authentication."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")


def anonymous(_: str) -> None:
    """Nobody: no host gets a header."""


def from_netrc(host: str) -> str | None:
    """Basic credentials of ``netrc_login``."""
    login = netrc_login(host)
    return None if login is None else login.basic()


def netrc_login(host: str) -> Login | None:
    """The login in ``$NETRC`` or ``~/.netrc``; None where the file or an entry for ``host`` is missing.

    Raises ``UsageError`` (``netrc-invalid``).
    """
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(str(path)).authenticators(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "netrc-invalid", f"could not read {path}", cause=str(error), hint="fix that file, or move it away"
        ) from error
    if found is None:
        return None
    login, _, password = found
    return Login(login, password or "")
