"""The part of an install that has something to fetch."""

from __future__ import annotations

from adpm.core.events import Fetching, Listener, Note
from adpm.core.lock import LockedPackage, distinct
from adpm.core.release import Blob
from adpm.core.source import PathSource
from adpm.errors import IntegrityError
from adpm.formats.oci import write_release
from adpm.ops.download import Missing, download
from adpm.ops.offline import not_in_store
from adpm.ops.project import Project
from adpm.ops.registries import open_chain
from adpm.store.put import Batch
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
    """Bring what is ``missing`` (package, file, blob); each release must be what the lock says of it.

    No registry is asked for a release manifest: its bytes follow from what the lock says of card and files.
    """
    packages = distinct(package for package, _, _ in missing)
    releases = {package.manifest: _release(package) for package in packages}
    for package in packages:
        if package.source is not None and (not offline or isinstance(package.source, PathSource)):
            from adpm.ops.direct import bring  # noqa: PLC0415 - it imports all that publishing needs

            bring(package, project.root, store)
    lacking = [Missing(*entry) for entry in missing if entry[2] not in releases and not store.has(entry[2])]
    if offline and lacking:
        raise not_in_store(project, [(one.package, one.blob) for one in lacking])
    with store.batch() as batch:
        for blob, data in releases.items():
            batch.put([data], blob)
        if lacking:
            _download(project, lacking, batch, listener)


def _download(project: Project, lacking: list[Missing], batch: Batch, listener: Listener) -> None:
    chain = open_chain(project)
    listener(Fetching(len(lacking), sum(one.blob.size for one in lacking)))
    try:
        download(lacking, chain.registry, batch, listener)
    finally:
        for note in chain.notes():
            listener(Note(f"note: {note}"))


def _release(package: LockedPackage) -> bytes:
    """The release's manifest. The lock could mix files of several releases if it were changed; the digest tells."""
    data = write_release(package.card, package.files)
    if Blob.of(data) != package.manifest:
        raise IntegrityError(
            "lock-mismatch",
            f"adapter.lock does not say of {package.name} {package.version} what its release says",
            cause="the lock's card or files differ from those of the release that it pins",
            hint="the lock was changed by hand or merged wrongly: run 'adpm update' for this package",
        )
    return data
