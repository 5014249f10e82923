"""The logins that ``adpm login`` keeps: a file that its user alone can read. A secret in the keyring is named there.

Who writes the file is ``adpm.ops.login``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from platformdirs import user_config_dir

from adpm import limits
from adpm.errors import UsageError
from adpm.formats.json import open_json, pretty
from adpm.formats.reader import Node, flag, integer, map_of, text
from adpm.net import ring
from adpm.net.credentials import Login, checked_login, discreet, places

__all__ = ["Kept", "kept_login", "kept_path", "read_kept", "write_kept"]

Kept = Mapping[str, Login | None]
"""``HOST`` or ``HOST:PORT`` to its login; None: that lies in the keyring."""

_FORMAT: Final = 1


def kept_path() -> Path:
    """``$ADPM_CREDENTIALS``, else ``credentials.json`` in adpm's directory of the user's configuration."""
    return Path(os.environ.get("ADPM_CREDENTIALS") or f"{user_config_dir('adpm')}/credentials.json").expanduser()


def kept_login(host: str) -> Login | None:
    """The login that is kept for ``HOST:PORT``.

    Raises ``UsageError`` (``credentials-exposed``, ``credentials-unreadable``), ``DocumentError``
    (``credentials-invalid``), ``LoginNeededError`` (``keyring-failed``).
    """
    kept = read_kept(kept_path())
    for place in places(host):
        if place in kept:
            return kept[place] or ring.get(place)
    return None


def read_kept(path: Path) -> Kept:
    """What the file says; nothing where there is none."""
    data = _private_bytes(path)
    if data is None:
        return {}
    with discreet():
        document = open_json(data, source=str(path), code="credentials-invalid", limit=limits.CONFIG_BYTES)
        kept = document.root.decode(lambda node: _kept(node, str(path)))
        document.finish(hint="mend it, or remove it and log in again")
    return kept or {}


def _private_bytes(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in {0, os.geteuid()}:
                raise UsageError(
                    "credentials-exposed",
                    f"{path} holds logins, and others than you can read or change it",
                    cause=f"its mode is {stat.S_IMODE(status.st_mode):04o}, its owner has the id {status.st_uid}",
                    hint=f"if nobody has used them: chmod 600 {path}; else remove it, change the passwords, and run "
                    "'adpm login' again",
                )
            return file.read(limits.CONFIG_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            "credentials-unreadable",
            f"the logins in {path} can't be read",
            cause=error.strerror or str(error),
            hint="mend its permissions, or name another file in $ADPM_CREDENTIALS",
        ) from error


def _kept(node: Node, source: str) -> Kept:
    fields = node.fields()
    fields.need("format", integer(_FORMAT, _FORMAT))
    kept = fields.get("hosts", map_of(str, lambda entry: _entry(entry, source)))
    fields.close()
    return {place: login for place, (login,) in (kept or {}).items()}


def _entry(node: Node, source: str) -> tuple[Login | None]:
    fields = node.fields()
    if fields.get("keyring", flag):
        fields.close()
        return (None,)
    user, secret = fields.get("user", text), fields.need("secret", text)
    fields.close()
    try:
        return (checked_login(user, secret or "-", source),)
    except UsageError as error:
        node.fail(error.cause or error.what)


def write_kept(kept: Kept) -> bytes:
    """The file's bytes."""
    hosts = {
        place: {"keyring": True}
        if login is None
        else {"secret": login.secret, **({} if login.user is None else {"user": login.user})}
        for place, login in kept.items()
    }
    return pretty({"format": _FORMAT, "hosts": hosts})
