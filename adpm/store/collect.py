"""Removing what no known project's lock names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from adpm.core.names import Digest
from adpm.errors import StoreError
from adpm.store.durable import remove_stale
from adpm.store.layout import objects
from adpm.store.projects import forget, known
from adpm.store.receipt import clear
from adpm.store.session import alone, session

__all__ = ["Collected", "collect"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be in a dry run: objects and their bytes, bytes of abandoned temporary, partial and
    quarantined files, and the locks that are gone, so that their projects were forgotten. ``kept`` counts objects."""

    objects: int
    size: int
    leftovers: int
    forgotten: tuple[Path, ...]
    kept: int


def collect(root: Path, marks: Callable[[Path], Iterable[Digest]], *, dry_run: bool = False) -> Collected:
    """Remove every object that no registered lock names; ``marks`` gives the digests that the lock at a path names.

    No session runs meanwhile (``StoreError``, ``store-busy``): so what an install found in the store, or put there,
    stays until its lock is registered. An error of ``marks`` (a lock that can't be read) ends the collection before
    anything is removed: what it names is not known. A dry run changes nothing and runs beside sessions.
    """
    guard: AbstractContextManager[None] = session(root) if dry_run else alone(root)
    with guard:
        marked: set[Digest] = set()
        forgotten = []
        for lock in known(root):
            if lock.exists():
                marked.update(marks(lock))
            else:
                forgotten.append(lock)
        try:
            return _sweep(root, marked, tuple(forgotten), dry_run=dry_run)
        except OSError as error:
            raise StoreError(
                "store-failed",
                f"could not remove from the store {root}",
                cause=str(error),
                hint="fix the permissions of the store; what was removed so far was not needed",
            ) from error


def _sweep(root: Path, marked: set[Digest], forgotten: tuple[Path, ...], *, dry_run: bool) -> Collected:
    removed = size = kept = 0
    for digest, entry in objects(root):
        if digest in marked:
            kept += 1
            continue
        size += entry.stat(follow_symlinks=False).st_size
        removed += 1
        if not dry_run:
            Path(entry.path).unlink()
    if not dry_run:
        clear(str(root))
        for lock in forgotten:
            forget(root, lock)
    leftovers = sum(remove_stale(root / name, dry_run=dry_run) for name in ("tmp", "staging", "quarantine"))
    return Collected(removed, size, leftovers, forgotten, kept)
