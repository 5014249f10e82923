"""The part of an install that has something to fetch."""

from __future__ import annotations

from adpm.core.events import Fetching, Listener, Note
from adpm.core.lock import LockedPackage, distinct
from adpm.core.release import Blob
from adpm.core.source import PathSource
from adpm.errors import IntegrityError
from adpm.formats.oci import read_release
from adpm.ops.download import Missing, download
from adpm.ops.offline import not_in_store
from adpm.ops.project import Project
from adpm.ops.registries import open_chain
from adpm.store.store import Store

__all__ = ["fetch"]


def fetch(
    project: Project,
    missing: list[tuple[LockedPackage, str, Blob]],
    store: Store,
    *,
    offline: bool,
    listener: Listener,
) -> None:
    """Bring what is ``missing`` (package, file, blob); each release must be what the lock says of it."""
    packages = distinct(package for package, _, _ in missing)
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
    release = read_release(bytes(store.map(package.manifest)), f"the release {package.name} {package.version}")
    if release.card != package.card or release.files != package.files:
        raise IntegrityError(
            "lock-mismatch",
            f"adapter.lock does not say of {package.name} {package.version} what its release says",
            cause="the lock's card or files differ from the release manifest that it pins",
            hint="the lock was changed by hand or merged wrongly: run 'adpm update' for this package",
        )
