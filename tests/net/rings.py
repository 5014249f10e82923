"""Keyrings for tests: backends of the package ``keyring``, chosen by ``$PYTHON_KEYRING_BACKEND``."""

# ruff: noqa: ARG002 - the signatures are keyring's

from __future__ import annotations

import getpass
import json
import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class Working(KeyringBackend):
    """Keeps secrets in the file ``$ADPM_TEST_RING``."""

    priority = 5

    def _held(self) -> dict[str, str]:
        path = Path(os.environ["ADPM_TEST_RING"])
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _write(self, held: dict[str, str]) -> None:
        Path(os.environ["ADPM_TEST_RING"]).write_text(json.dumps(held))

    def get_password(self, service: str, username: str) -> str | None:
        return self._held().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write({**self._held(), f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        held = self._held()
        if f"{service} {username}" not in held:
            raise PasswordDeleteError
        self._write({key: value for key, value in held.items() if key != f"{service} {username}"})


class Locked(Working):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked(service)

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(password)


class Asking(Working):
    """Wants a password for itself, as those do that keep their secrets in a file of their own."""

    def get_password(self, service: str, username: str) -> str | None:
        return getpass.getpass("Please unlock: ")

    set_password = get_password  # type: ignore[assignment]


class Silent(Working):
    """Waits for somebody to click somewhere."""

    def get_password(self, service: str, username: str) -> str | None:
        time.sleep(600)
        return None

    set_password = get_password  # type: ignore[assignment]


class Plain(Working):
    priority = 0.5  # type: ignore[assignment]  # what keyring does not recommend
