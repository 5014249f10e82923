"""``adpm install``: bring what the lock pins into the store; nothing else changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from adpm.core.events import Listener, ignore
from adpm.core.lock import Lock, LockedPackage, distinct
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import LockOutdatedError
from adpm.ops.belongs import has_paths, out_of_date
from adpm.ops.project import Project, differences
from adpm.ops.root import note_installed
from adpm.store.store import Store

__all__ = ["Installed", "check_lock", "install"]


@dataclass(frozen=True, slots=True)
class Installed:
    """The packages of which something had to be fetched, by name; how many are there now; how many bytes came."""

    packages: tuple[LockedPackage, ...]
    present: int
    size: int


def check_lock(project: Project, lock: Lock, store: Store) -> None:
    """Raise ``LockOutdatedError`` (``lock-outdated``) if ``lock`` does not belong to the project's manifest."""
    found = list(out_of_date(project, lock, store))
    if found:
        raise LockOutdatedError(
            "lock-outdated",
            "adapter.lock does not belong to adapter.yaml",
            cause="\n".join(found),
            hint="run 'adpm lock', look at what changed, and commit both files",
        )


def install(
    project: Project,
    lock: Lock,
    store: Store,
    *,
    groups: Collection[str] = (),
    only: Collection[str] = (),
    offline: bool = False,
    listener: Listener = ignore,
) -> Installed:
    """Fetch what ``lock`` pins and the store lacks. Asks no registry if nothing is missing.

    ``groups`` and ``only`` say which of it, as ``Lock.selected``.

    Every byte is checked against its digest while it streams, and each release against its entry in the lock. What
    has arrived when an error ends the work stays, so that the same call goes on from there.
    """
    with store.session():
        store.register_project(project.lock_path)
        selected = lock.selected(groups, only)
        missing = list(_missing(selected, store))
        if missing:
            from adpm.ops.fetch import fetch  # noqa: PLC0415 - who misses nothing must not pay for the network

            fetch(project, missing, store, offline=offline, listener=listener)
        if _is_plain(project, lock, groups, only) and not any(differences(project.manifest, lock)):
            note_installed(str(project.root), len(selected.packages), _objects(selected))
    size = sum(blob.size for _, _, blob in missing)
    return Installed(distinct(package for package, _, _ in missing), len(selected.packages), size)


def _is_plain(project: Project, lock: Lock, groups: Collection[str], only: Collection[str]) -> bool:
    """Whether the project's two files are all that this install depended on."""
    return not groups and not only and not has_paths(lock) and not project.together.texts


def _objects(lock: Lock) -> Iterator[tuple[str, int]]:
    for package in lock.packages.values():
        for _, blob in package.blobs():
            yield blob.digest.hex, blob.size


def _missing(lock: Lock, store: Store) -> Iterator[tuple[LockedPackage, str, Blob]]:
    seen: set[Digest] = set()
    for package in lock.packages.values():
        for path, blob in package.blobs():
            if blob.digest not in seen and not store.has(blob):
                seen.add(blob.digest)
                yield package, path, blob
