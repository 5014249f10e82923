"""``adpm install``: bring what the lock pins into the store; nothing else changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from adpm.core.events import Fetching, Listener, Note, ignore
from adpm.core.lock import Lock, LockedPackage
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.core.source import PathSource
from adpm.errors import IntegrityError, LockOutdatedError
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
            _fetch(project, missing, store, offline=offline, listener=listener)
        if not groups and not only and not any(differences(project.manifest, lock)) and not has_paths(lock):
            note_installed(str(project.root), len(selected.packages), _objects(selected))
    size = sum(blob.size for _, _, blob in missing)
    return Installed(tuple(_packages(missing)), len(selected.packages), size)


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


def _packages(missing: list[tuple[LockedPackage, str, Blob]]) -> Iterable[LockedPackage]:
    """Each package once. By name: hashing one hashes all of its files."""
    return {package.name: package for package, _, _ in missing}.values()


def _fetch(
    project: Project,
    missing: list[tuple[LockedPackage, str, Blob]],
    store: Store,
    *,
    offline: bool,
    listener: Listener,
) -> None:
    from adpm.ops.download import (  # noqa: PLC0415 - an install that misses nothing must not pay for the network
        Missing,
        download,
    )
    from adpm.ops.offline import not_in_store  # noqa: PLC0415 - as above
    from adpm.ops.registries import open_chain  # noqa: PLC0415 - as above

    packages = list(_packages(missing))
    for package in packages:
        if package.source is not None and (not offline or isinstance(package.source, PathSource)):
            from adpm.ops.direct import bring  # noqa: PLC0415 - it imports all that publishing needs

            bring(package, project.root, store)
    lacking = [Missing(*entry) for entry in missing if entry[0].registry is not None or not store.has(entry[2])]
    if offline and lacking:
        raise not_in_store(project, [(one.package, one.blob) for one in lacking])
    chain = open_chain(project)
    listener(Fetching(len(lacking), sum(one.blob.size for one in lacking)))
    with store.batch() as batch:
        try:
            download(lacking, chain.registry, batch, listener)
        finally:
            for note in chain.notes():
                listener(Note(f"note: {note}"))
    for package in packages:
        _check_release(package, store)


def _check_release(package: LockedPackage, store: Store) -> None:
    """The lock's entry must say of a release what its manifest says, or a changed lock could mix files."""
    from adpm.formats.oci import read_release  # noqa: PLC0415 - as above

    release = read_release(bytes(store.map(package.manifest)), f"the release {package.name} {package.version}")
    if release.card != package.card or release.files != package.files:
        raise IntegrityError(
            "lock-mismatch",
            f"adapter.lock does not say of {package.name} {package.version} what its release says",
            cause="the lock's card or files differ from the release manifest that it pins",
            hint="the lock was changed by hand or merged wrongly: run 'adpm update' for this package",
        )
