"""The login for a host, from where a user may have put it."""

from __future__ import annotations

from adpm.net.credentials import Login, environment_login, netrc_login
from adpm.net.kept import kept_login

__all__ = ["find_login"]


def find_login(host: str) -> Login | None:
    """The login for ``HOST:PORT``: of the environment, else of ``adpm login``, else of ``~/.netrc``.

    Raises ``UsageError``, ``DocumentError`` and ``LoginNeededError``, as these do.
    """
    return environment_login(host) or kept_login(host) or netrc_login(host)
