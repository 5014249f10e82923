"""Secrets in the keyring of the user's session, through the package ``keyring`` (``adpm[keyring]``).

Every call is a process of its own, without a terminal and with a time limit: a keyring may want to be unlocked, and
some ask for that on the terminal, or on a screen that nobody looks at. What is kept under a host is its login as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any, Final

from adpm import limits
from adpm.errors import DocumentError, LoginNeededError
from adpm.formats.json import canonical, parse_json
from adpm.net.credentials import Login, checked_login

__all__ = ["failed", "forget", "get", "put"]

_SERVICE: Final = "adpm"
_SOURCE: Final = "the keyring"


def get(place: str) -> Login:
    """The login that ``put`` kept. Raises ``LoginNeededError`` (``keyring-failed``)."""
    value, why = _ask({"do": "get", "place": place})
    if isinstance(value, str):
        try:
            user, secret = json.loads(value)
            return checked_login(user, secret, _SOURCE)
        except (ValueError, TypeError):
            why = "what it holds is no login of adpm's"
    raise failed(place, why or "it holds none")


def failed(place: str, why: str) -> LoginNeededError:
    return LoginNeededError(
        "keyring-failed",
        f"the keyring did not do its work for {place}",
        cause=why,
        hint=f"unlock it; or log in again: 'adpm login {place}', with --no-keyring to keep the login in a file",
        place=place,
    )


def put(place: str, login: Login) -> str | None:
    """Keep a login; why that could not be done, None if it was."""
    if find_spec("keyring") is None:
        return "the package keyring is not installed (pip install 'adpm[keyring]')"
    secret = json.dumps([login.user, login.secret])
    value, why = _ask({"do": "put", "place": place, "secret": secret})
    return None if value == secret else why or "it did not give back what was put into it"


def forget(place: str) -> str | None:
    """Remove a login, where there is one; why that could not be done."""
    return _ask({"do": "forget", "place": place})[1]


def _ask(request: dict[str, str]) -> tuple[object, str | None]:
    """What the keyring holds then, and what went wrong. No word of the process's own output is passed on."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "adpm.net.ring"],
            input=canonical(request),
            capture_output=True,
            check=False,
            start_new_session=True,  # no terminal to ask on
            timeout=limits.HELPER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {limits.HELPER_SECONDS:.0f} s: it may be locked"
    except OSError as error:
        return None, str(error)
    try:
        answer: Any = parse_json(done.stdout, source=_SOURCE, code="credentials-invalid", limit=limits.CONFIG_BYTES)
        return answer["value"], answer["why"]
    except (DocumentError, LookupError, TypeError):
        return None, f"asking it ended with status {done.returncode}"


def _answer(request: dict[str, str]) -> tuple[str | None, str | None]:
    """Run in a process of its own: what the keyring holds after doing what was asked."""
    import keyring  # noqa: PLC0415 - may be missing, and is nothing that adpm's other processes need
    from keyring.errors import KeyringError, PasswordDeleteError  # noqa: PLC0415 - as above

    backend, place = keyring.get_keyring(), request["place"]
    if backend.priority < 1:  # what keyring itself does not recommend: none at all, or files in plain text
        return None, f"none can be used here ({backend.name})"
    try:
        if request["do"] == "put":
            backend.set_password(_SERVICE, place, request["secret"])
        elif request["do"] == "forget":
            try:
                backend.delete_password(_SERVICE, place)
            except PasswordDeleteError:
                return None, None  # it held none
        return backend.get_password(_SERVICE, place), None
    except KeyringError as error:
        return None, f"{backend.name}: {type(error).__name__}"


if __name__ == "__main__":
    held, fault = _answer(json.load(sys.stdin))
    json.dump({"value": held, "why": fault}, sys.stdout)
