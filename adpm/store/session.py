"""Who works and who collects: many sessions at once, or one collector alone.

The lock is advisory and ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adpm.errors import StoreError

__all__ = ["alone", "session"]


@contextmanager
def session(root: Path) -> Iterator[None]:
    """While it lasts nothing is collected. Waits for a collection that is under way."""
    descriptor = _open(root)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """No session runs meanwhile. Raises ``StoreError`` (``store-busy``) at once if one does."""
    descriptor = _open(root)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                "store-busy",
                f"the store {root} is in use",
                cause="another adpm installs, publishes or verifies right now",
                hint="run the same command again when that has ended",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _open(root: Path) -> int:
    path, flags = root / "gc.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            root.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o644)
    except OSError as error:
        raise StoreError(
            "store-failed",
            f"could not open the store {root}",
            cause=str(error),
            hint="fix its permissions, or put the store elsewhere by setting ADPM_HOME",
        ) from error
