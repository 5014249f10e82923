"""``adpm login`` and ``adpm logout``: keep the login for a host, and forget it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from adpm import limits
from adpm.errors import NotFoundError, UsageError
from adpm.net import ring
from adpm.net.client import Client
from adpm.net.credentials import Login, environment_login, netrc_login
from adpm.net.kept import Kept, kept_path, read_kept, write_kept
from adpm.net.offline import refuse_if_offline
from adpm.net.url import checked, host_port
from adpm.registry.oci_open import open_api
from adpm.registry.records import MARKER
from adpm.store.durable import replace

__all__ = ["KeptIn", "keep", "logout", "other_source", "place_of", "verify"]


_KINDS: Final = frozenset({"", "http", "https", "oci", "oci+http"})


@dataclass(frozen=True, slots=True)
class KeptIn:
    """Where a login lies now. ``file`` None: in the keyring; else ``why`` says why not there, if it was asked."""

    file: Path | None
    why: str | None = None


def place_of(host: str) -> str:
    """``HOST`` or ``HOST:PORT`` of what a user typed, which may be a registry's URL.

    Raises ``UsageError`` (``url-invalid``).
    """
    scheme, rest = host.split("://", 1) if "://" in host else ("", host)
    if scheme.lower() not in _KINDS:
        raise UsageError(
            "url-invalid",
            f"adpm keeps no logins for {scheme}://",
            hint="log in with the tools of that kind of server: AWS_PROFILE and the like, or the keys of your ssh",
        )
    parts = urlsplit(checked(f"http://{rest}"))
    if not scheme and parts.path.strip("/"):
        raise UsageError("url-invalid", f"{host!r} is no host", hint="write HOST, HOST:PORT, or a whole URL")
    return parts.netloc.lower()


def verify(url: str, login: Login) -> bool:
    """Ask the server at ``url`` as ``login``: whether there is a registry; there may be none, and the login be good.

    Raises ``LoginNeededError`` (``login-needed``, ``access-denied``), and ``NetworkError``.
    """
    scheme = url.partition(":")[0].lower()
    refuse_if_offline(url)
    try:
        if scheme.startswith("oci"):
            open_api(url, lambda: login)[0].log_in()
        else:
            Client(credentials=lambda _: login).document(f"{url.rstrip('/')}/{MARKER}", limit=limits.RECORD_BYTES)
    except NotFoundError:
        return False
    return True


def keep(place: str, login: Login, *, keyring: bool = True) -> KeptIn:
    """Keep ``login`` for ``place``, in place of what was kept: in the keyring if there is one, else in the file."""
    path = kept_path()
    with _alone(path):
        kept = dict(read_kept(path))
        why = ring.put(place, login) if keyring else None
        if kept.get(place, login) is None and not (keyring and why is None):
            ring.forget(place)  # a login that is no longer used must not stay
        in_ring = keyring and why is None
        kept[place] = None if in_ring else login
        _write(path, kept)
    return KeptIn(None if in_ring else path, why)


def logout(place: str) -> bool:
    """Forget the login that is kept for ``place``; whether there was one.

    Raises ``LoginNeededError`` (``keyring-failed``) if it stays in the keyring.
    """
    path = kept_path()
    if place not in read_kept(path):
        return False
    with _alone(path):
        kept = dict(read_kept(path))
        if kept.get(place, ()) is None and (why := ring.forget(place)) is not None:
            raise ring.failed(place, why)
        kept.pop(place, None)
        _write(path, kept)
    return True


def other_source(place: str) -> str | None:
    """Where else than with adpm a login for ``place`` is found, which counts after a logout."""
    host = host_port(f"https://{place}")
    login = environment_login(host) or netrc_login(host)
    return None if login is None else login.source


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other logins and logouts away, so that none is lost."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, kept: Kept) -> None:
    replace(path.parent, path, write_kept(dict(sorted(kept.items()))), mode=0o600)
