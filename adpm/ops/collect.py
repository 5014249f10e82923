"""``adpm gc``: remove from the store what no known project's lock names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adpm import limits
from adpm.core.names import Digest
from adpm.formats.lock import read_lock
from adpm.store.files import read_bounded
from adpm.store.store import Collected, Store

__all__ = ["collect"]


def collect(store: Store, *, dry_run: bool = False) -> Collected:
    """See ``Store.collect``; a lock that can't be read ends it before anything is removed."""
    return store.collect(_marks, dry_run=dry_run)


def _marks(lock_path: Path) -> Iterator[Digest]:
    lock = read_lock(read_bounded(lock_path, limits.LOCK_BYTES), str(lock_path))
    for package in lock.packages.values():
        for _, blob in package.blobs():
            yield blob.digest
