"""Getting bytes out of the store: nothing is handed out that was not hashed first."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from adpm import limits
from adpm.core.release import Blob
from adpm.errors import IntegrityError, NotFoundError, StoreError
from adpm.store.layout import object_path
from adpm.store.mapped import mapped

__all__ = ["has", "map_object", "quarantine"]


def has(root: Path, blob: Blob) -> bool:
    """Whether an object of this digest and size is there: one stat, no hashing. ``map_object`` verifies."""
    try:
        return os.stat(object_path(root, blob.digest)).st_size == blob.size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(root, error) from error


def map_object(root: Path, blob: Blob) -> memoryview:
    """The verified bytes of an object, mapped (``mapped``); valid as long as the view lives, even once collected.

    Writing into the view changes neither the store nor another view. Cost: one pass of
    sha256. Raises ``NotFoundError`` (``object-missing``), and ``IntegrityError`` (``object-corrupt``) after setting the
    object aside, so that the next install fetches it again.
    """
    path = object_path(root, blob.digest)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(
            "object-missing",
            f"{blob.digest} is not in the store {root}",
            hint="run 'adpm install' to fetch it",
            blob=blob,
        ) from None
    except OSError as error:
        raise _unreadable(root, error) from error
    try:
        status = os.fstat(descriptor)
        found = f"{status.st_size} bytes, not {blob.size}"
        if status.st_size == blob.size:
            view = mapped(descriptor, blob.size)
            digest = "sha256:" + hashlib.sha256(view).hexdigest()
            if digest == blob.digest:
                return view
            found = f"content with {digest}"
    except OSError as error:
        raise _unreadable(root, error) from error
    finally:
        os.close(descriptor)
    quarantine(root, path, status)
    raise IntegrityError(
        "object-corrupt",
        f"an object of the store is damaged: {blob.digest}",
        cause=f"the file holds {found}; it was moved to {root}/quarantine",
        hint="run 'adpm install' to fetch it again; 'adpm verify' checks all others",
        blob=blob,
    )


def quarantine(root: Path, path: str, status: os.stat_result) -> None:
    """Set the object at ``path`` aside, if it is still the file that ``status`` was taken of."""
    aside = root / "quarantine"
    target = aside / f"{Path(path).parent.name}{Path(path).name}-{secrets.token_hex(4)}{limits.QUARANTINE_SUFFIX}"
    try:
        aside.mkdir(exist_ok=True)
        now = os.stat(path)
        if (now.st_ino, now.st_dev) == (status.st_ino, status.st_dev):
            Path(path).rename(target)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise StoreError(
            "store-failed",
            f"could not set the damaged object {path} aside",
            cause=str(error),
            hint="remove that file by hand, then run 'adpm install'",
        ) from error


def _unreadable(root: Path, error: OSError) -> StoreError:
    return StoreError(
        "store-failed",
        f"could not read from the store {root}",
        cause=str(error),
        hint="fix its permissions, or put the store elsewhere by setting ADPM_HOME",
    )
