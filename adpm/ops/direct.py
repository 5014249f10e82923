"""Direct sources: a directory, a git repository or one of the Hub becomes the one release that it holds.

Its card names the base by id alone where it has one: what lies on this machine must not change a digest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from adpm import limits
from adpm.core.events import Listener, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.lock import Lock, LockedPackage
from adpm.core.release import Blob, Listing
from adpm.core.source import GitSource, HubSource, PathSource, Source
from adpm.errors import DocumentError, Fault, IntegrityError, NotFoundError
from adpm.formats.card import read_card
from adpm.formats.oci import read_release
from adpm.formats.plain import plain_name, plain_version
from adpm.net.git import Entry, Tree, fetch
from adpm.ops.package import PackageDirectory, goes_into_package, read_package
from adpm.ops.plain import is_plain, plain_package
from adpm.ops.publish import Prepared, prepare
from adpm.registry.confirm import confirm
from adpm.registry.hub_open import open_revision
from adpm.store.home import home
from adpm.store.parallel import in_parallel
from adpm.store.store import Store

__all__ = ["Direct", "at_hand", "bring", "changed", "path_differences", "take"]


@dataclass(frozen=True, slots=True)
class Direct:
    """The release that ``source``, with its commit, stands for; its bytes are in the store."""

    source: Source
    prepared: Prepared

    @property
    def listing(self) -> Listing:
        """As a registry would list it."""
        card = self.prepared.card
        return Listing.of(card, self._manifest)

    @property
    def locked(self) -> LockedPackage:
        """The lock's entry for it."""
        card = self.prepared.card
        return LockedPackage(
            name=card.name,
            version=card.version,
            registry=None,
            manifest=self._manifest,
            card=Blob.of(self.prepared.card_data),
            files=self.prepared.files,
            requires=card.requires,
            source=self.source,
        )

    @property
    def _manifest(self) -> Blob:
        return Blob.of(self.prepared.manifest)


def take(source: Source, root: Path, store: Store, listener: Listener = ignore) -> Direct:
    """Read ``source``, relative to the project in ``root``, and put what it holds into the store.

    Raises ``NotFoundError`` (``source-not-found``, ``revision-not-found``) and what ``prepare`` and git raise.
    """
    if isinstance(source, PathSource):
        directory = root / source.path
        if not directory.is_dir():
            raise NotFoundError(
                "source-not-found",
                f"there is no directory {source.path}",
                cause=f"looked for {directory}",
                hint=f"correct its path in {MANIFEST_FILE}",
            )
        return _prepared(source, directory, store, listener)
    if isinstance(source, GitSource):
        with tempfile.TemporaryDirectory(prefix="adpm-git-") as temporary:
            tree = fetch(source, Path(temporary) / "repository")
            directory = Path(temporary) / "files"
            directory.mkdir()
            tree.write(_taken(tree), directory)
            return _prepared(tree.source, directory, store, listener)
    return _from_hub(source, store)


def bring(package: LockedPackage, root: Path, store: Store) -> None:
    """Put what a locked direct source holds into the store; ``IntegrityError`` (``source-changed``) if it differs."""
    assert package.source is not None  # noqa: S101 - the caller looked
    found = take(package.source, root, store).locked
    if found.manifest != package.manifest:
        raise IntegrityError(
            "source-changed",
            f"{package.source} is not what adapter.lock has of it",
            cause=f"locked is {package.name} {package.version} with {package.manifest.digest}; "
            f"there is {found.name} {found.version} with {found.manifest.digest}",
            hint="run 'adpm lock' to lock it as it is now",
        )


def at_hand(package: LockedPackage, store: Store) -> Direct | None:
    """A locked commit, if the store knows the release that it stands for; None for a directory, which may change."""
    if package.source is None or isinstance(package.source, PathSource):
        return None
    if not store.has(package.card) or not store.has(package.manifest):
        return None
    card_data, manifest = (bytes(store.map(blob)) for blob in (package.card, package.manifest))
    card = read_card(card_data, f"the card of {package.name} {package.version}")
    return Direct(package.source, Prepared(card, card_data, manifest, package.files))


def path_differences(root: Path, lock: Lock, store: Store) -> Iterator[str]:
    """Which locked directories have other content now, a sentence each."""
    for package in lock.packages.values():
        yield from changed(package, root, store)


def changed(package: LockedPackage, root: Path, store: Store) -> Iterator[str]:
    """A sentence if ``package`` is from a directory that has other content now."""
    if isinstance(package.source, PathSource):
        try:
            found = take(package.source, root, store).locked
        except NotFoundError as error:
            yield error.what
            return
        if found.manifest != package.manifest:
            yield f"{package.source} holds {found.name} {found.version} with other content than was locked"


def _prepared(source: Source, directory: Path, store: Store, listener: Listener) -> Direct:
    with tempfile.TemporaryDirectory(prefix="adpm-plain-") as work:
        package = _plain(source, directory, Path(work)) if is_plain(directory) else read_package(directory)
        prepared = prepare(package, store, base_by_id=True, listener=listener)
    with store.batch() as batch:
        batch.put([prepared.manifest])
        batch.put([prepared.card_data])
    return Direct(source, prepared)


def _plain(source: Source, directory: Path, work: Path) -> PackageDirectory:
    """A directory that PEFT or AdapterHub saved, named after the place that it lies in."""
    if isinstance(source, GitSource):
        place = (source.subdirectory or source.url.rstrip("/").removesuffix(".git")).rpartition("/")[2]
        return plain_package(directory, plain_name(place), plain_version(source.commit), work)
    return plain_package(directory, plain_name(directory.resolve().name), plain_version(None), work)


def _from_hub(source: HubSource, store: Store) -> Direct:
    """What a repository of the Hub holds, at the commit that is locked, or at what its revision stands for now."""
    found = open_revision(source.repository, source.commit or source.revision, Path(home()) / "indexes")
    what = f"{source.repository} at {found.commit[:12]}"
    with store.batch() as batch:
        manifest = b"".join(found.chunks(found.listing.manifest.digest))
        batch.put([manifest], found.listing.manifest)
        release = read_release(manifest, f"the release {what}")
        card_data = b"".join(found.chunks(release.card.digest))
        batch.put([card_data], release.card)

        def put(blob: Blob) -> None:
            if batch.has(blob):
                return
            there = found.file(blob.digest)
            if there is None or not batch.share(there, blob):
                batch.put(found.chunks(blob.digest), blob)

        in_parallel(put, list(dict.fromkeys(file.blob for file in release.files)), threads=limits.CONNECTIONS)
    card = read_card(card_data, f"the card of {what}")
    confirm(found.listing, card, where=f"the Hub's {what}")
    return Direct(replace(source, commit=found.commit), Prepared(card, card_data, manifest, release.files))


def _taken(tree: Tree) -> list[Entry]:
    """The files of a repository that belong to a package, and the pickles that will be refused by name."""
    entries = [entry for entry in tree.entries if goes_into_package(entry.path)]
    links = [entry for entry in entries if entry.mode not in {"100644", "100755"}]
    if links:
        raise DocumentError(
            "package-unpublishable",
            str(tree.source),
            [Fault(entry.path, "is a link; packages hold files only") for entry in links],
        )
    return entries
