"""The projects that use a store: the collector keeps what their locks name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from adpm.errors import StoreError
from adpm.store.durable import create

__all__ = ["forget", "known", "register"]


def register(root: Path, lock: Path) -> None:
    """Remember the project whose lock lies at ``lock``; nothing to do if it is known."""
    absolute = os.fsencode(lock.absolute())
    record = _record(root, absolute)
    if record.exists():
        return
    try:
        create(root / "tmp", record, absolute)
    except OSError as error:
        raise StoreError(
            "store-failed",
            f"could not remember the project of {lock}",
            cause=str(error),
            hint="fix the permissions of the store, or put it elsewhere by setting ADPM_HOME",
        ) from error


def known(root: Path) -> list[Path]:
    """The paths of all registered locks, sorted; the files may be gone."""
    directory = root / "projects"
    records = directory.iterdir() if directory.is_dir() else ()
    return sorted(Path(os.fsdecode(record.read_bytes())) for record in records)


def forget(root: Path, lock: Path) -> None:
    _record(root, os.fsencode(lock)).unlink(missing_ok=True)


def _record(root: Path, absolute: bytes) -> Path:
    return root / "projects" / hashlib.sha256(absolute).hexdigest()
