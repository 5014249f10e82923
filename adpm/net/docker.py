"""Logins that ``docker login`` keeps: in ``config.json``, or with a credential helper that it names."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adpm import limits
from adpm.errors import DocumentError, Fault, LoginNeededError
from adpm.formats.json import open_json
from adpm.formats.reader import Node, map_of
from adpm.net.credentials import Login, discreet

__all__ = ["docker_login"]

_CODE: Final = "docker-config-invalid"
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_NOT_THERE: Final = "credentials not found in native keychain"  # what every helper says, word by word
_SOURCE: Final = "docker's config.json"
_IDENTITY: Final = "<token>"  # instead of a user: the secret is an identity token


@dataclass(frozen=True, slots=True)
class _Config:
    auths: Mapping[str, Login | None]
    helpers: Mapping[str, str]
    store: str | None


def docker_login(host: str) -> Login | None:
    """What docker knows of ``host`` (``name`` or ``name:port``): the host's own helper, else the helper for all, else
    the file ``$DOCKER_CONFIG/config.json`` (``~/.docker/config.json``). None where it knows nothing.

    Raises ``DocumentError`` (``docker-config-invalid``), ``LoginNeededError`` (``credential-helper-failed``).
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    config = _read(path)
    if config is None:
        return None
    helper = config.helpers.get(host) or config.store
    found = _ask(helper, host, path) if helper else None
    return found or _listed(config.auths, host)


def _listed(auths: Mapping[str, Login | None], host: str) -> Login | None:
    """Entries are hosts; old ones are URLs."""
    for key, login in auths.items():
        if re.sub(r"^https?://", "", key).partition("/")[0] == host and login is not None:
            return login
    return None


def _read(path: Path) -> _Config | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DocumentError(_CODE, str(path), [Fault("", f"can't be read: {error}")]) from error
    with discreet():
        document = open_json(data, source=str(path), code=_CODE, limit=limits.CONFIG_BYTES)
        config = document.root.decode(_config)
        document.finish(hint="mend the file, or log in again")
    assert config is not None  # noqa: S101 - finish has raised otherwise
    return config


def _config(node: Node) -> _Config:
    fields = node.fields()  # docker keeps other things here too
    return _Config(
        fields.get("auths", map_of(str, _login), default={}),
        fields.get("credHelpers", map_of(str, _loose), default={}),
        fields.get("credsStore", _loose) or None,
    )


def _login(node: Node) -> Login | None:
    fields = node.fields()
    token = fields.get("identitytoken", _loose)
    if token:
        return Login(None, token, _SOURCE, identity=True)
    auth = fields.get("auth", _loose)
    if not auth:
        return None
    try:
        user, colon, secret = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        node.fail("'auth' is no user and password in base64")
    return Login(user, secret.rstrip("\0"), _SOURCE)


def _loose(node: Node) -> str:
    if not isinstance(node.value, str):
        node.fail("must be a text")
    return node.value


def _ask(helper: str, host: str, config: Path) -> Login | None:
    if not _HELPER.match(helper):
        raise _failed(helper, host, f"{config} names a credential helper that can't be a program")
    try:
        done = subprocess.run(  # noqa: S603 - no shell; the name was checked
            [f"docker-credential-{helper}", "get"],
            input=host.encode(),
            capture_output=True,
            check=False,
            timeout=limits.HELPER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it did not end in time" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise _failed(helper, host, why) from error
    if done.returncode != 0:
        if _NOT_THERE.encode() in done.stdout + done.stderr:
            return None
        raise _failed(helper, host, f"it ended with status {done.returncode}")
    with discreet():
        document = open_json(
            done.stdout, source=f"what docker-credential-{helper} says", code=_CODE, limit=limits.CONFIG_BYTES
        )
        login = document.root.decode(_answer)
        document.finish(hint="log in again")
    assert login is not None  # noqa: S101 - finish has raised otherwise
    return login


def _answer(node: Node) -> Login:
    fields = node.fields()
    user, secret = fields.need("Username", _loose), fields.need("Secret", _loose)
    return Login(None if user == _IDENTITY else user, secret, _SOURCE, identity=user == _IDENTITY)


def _failed(helper: str, host: str, why: str) -> LoginNeededError:
    return LoginNeededError(
        "credential-helper-failed",
        f"docker's credential helper {helper!r} gave no login for {host}",
        cause=why,
        hint="run 'docker login' again, or take the helper out of docker's config.json",
    )
