"""Files that are whole or absent, also after a kill or a power cut.

A file is written under a unique name in a temporary directory of the same file system, synced, then linked to its
final name, which never replaces what is there; then the directory is synced. Whoever sees the final name sees every
byte. ``kill -9`` leaves at most a temporary file.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from adpm import limits
from adpm.store.parallel import in_parallel

__all__ = [
    "create",
    "create_from",
    "each_synced",
    "link_into_place",
    "remove_stale",
    "replace",
    "sync",
    "sync_all",
    "temporary",
    "write",
    "write_all",
]

T = TypeVar("T")

_RUN: Final = secrets.token_hex(8)  # a process id may come again, or be another machine's
_numbers = itertools.count()
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def temporary(directory: Path) -> tuple[int, Path]:
    """A new empty file of mode 0600 in ``directory``, made if needed: its descriptor and path."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        path = directory / f".adpm-{os.getpid()}-{_RUN}-{next(_numbers)}"
        try:
            return os.open(path, flags, 0o600), path
        except FileNotFoundError:
            directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            continue  # left by a fork of this process that had the same number


def link_into_place(source: Path, final: Path) -> tuple[bool, set[Path]]:
    """Give ``source`` the name ``final`` unless that name is taken; ``source`` is gone afterwards.

    Returns whether the name was free, and the directories to sync before anyone is told so.
    """
    directories = {final.parent}
    try:
        free = _link(source, final)
    except FileNotFoundError:
        directories = _make_parents(final)
        free = _link(source, final)
    return free, directories  # where it was taken: the other writer may not have synced yet, so we do


def _link(source: Path, final: Path) -> bool:
    try:
        os.link(source, final)
    except FileExistsError:
        source.unlink()
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if final.exists():
            source.unlink()
            return False
        source.rename(final)  # no hard links here: check-then-rename is the best this file system can do
        return True
    source.unlink()
    return True


def _make_parents(path: Path) -> set[Path]:
    """Make the directories above ``path``; those that got or may get a new entry."""
    changed = {path.parent}
    missing = path.parent
    while not missing.exists():
        missing = missing.parent
        changed.add(missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    return changed


def create(temporaries: Path, final: Path, data: bytes, *, mode: int = 0o444) -> bool:
    """Write ``data`` durably to ``final`` unless it exists; whether it was free."""
    return create_from(temporaries, final, [data], mode=mode)


def create_from(temporaries: Path, final: Path, chunks: Iterable[bytes], *, mode: int = 0o444) -> bool:
    """``create`` of what ``chunks`` gives; an error of theirs leaves nothing."""
    written = write(temporaries, chunks, mode)
    free, directories = link_into_place(written, final)
    sync_all(directories)
    return free


def replace(temporaries: Path, final: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` durably to ``final``, atomically in place of what may be there."""
    written = write(temporaries, [data], mode)
    directories = _make_parents(final)
    written.replace(final)
    sync_all(directories)


def write(temporaries: Path, chunks: Iterable[bytes], mode: int) -> Path:
    """A temporary file that holds ``chunks``, durably."""
    descriptor, path = temporary(temporaries)
    try:
        try:
            for chunk in chunks:
                write_all(descriptor, chunk)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_all(descriptor: int, data: bytes) -> None:
    """``os.write`` may write less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(path: Path) -> None:
    """Wait until what was written to the file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Iterable[Path]) -> None:
    """``sync`` of each path."""
    each_synced(sync, list(paths))


def each_synced(work: Callable[[T], None], items: list[T]) -> None:
    """``work``, which syncs a file, on each of ``items``: at once, where the first one had to wait for a disk.

    A file system puts syncs that wait together into one commit of its journal; one in memory has nothing to wait for.
    """
    if not items:
        return
    began = time.monotonic()
    work(items[0])
    waited = time.monotonic() - began > limits.SYNC_SECONDS
    in_parallel(work, items[1:], threads=limits.SYNC_THREADS if waited else 1)


def remove_stale(directory: Path, *, dry_run: bool = False) -> int:
    """Remove files older than ``limits.TEMPORARY_AGE_SECONDS``; the bytes that they took."""
    before = time.time() - limits.TEMPORARY_AGE_SECONDS
    removed = 0
    for path in directory.iterdir() if directory.is_dir() else ():
        try:
            status = path.lstat()
            if status.st_mtime < before:
                if not dry_run:
                    path.unlink()
                removed += status.st_size
        except FileNotFoundError:
            continue  # its writer was alive after all, and done
    return removed
