"""An OCI registry as a registry: a package is a repository, a version a tag. ``specs/oci.md`` is the normative text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from packaging.version import Version

from adpm import limits
from adpm.core.names import Channel, Digest, PackageName
from adpm.core.release import Attachment, Blob, Listing
from adpm.core.settings import connections
from adpm.errors import DocumentError, Fault, LoginNeededError, NotFoundError, RegistryError, UsageError
from adpm.formats.card import read_card
from adpm.formats.oci import INDEX_TYPE, MANIFEST_TYPE, read_index, read_release, write_index
from adpm.registry.cache import DocumentCache
from adpm.registry.distribution import Distribution
from adpm.registry.place import Ability
from adpm.registry.port import BlobRegistry, Published, Source, listing_ability, version_taken
from adpm.registry.referrers import add_referrer, lists_referrers, referrers
from adpm.registry.tags import INDEX, RELEASE, YANK, Mark, Tags, is_tag, mark_of, read_tags, tag_of
from adpm.registry.upload import upload
from adpm.store.parallel import in_parallel

__all__ = ["OciRegistry"]

_NOTHING: Final = Tags(frozenset(), frozenset(), frozenset(), index=False, channels=frozenset())
_NO_RELEASE: Final = write_index(())  # what the tag of a channel holds that was removed: not every registry untags


class OciRegistry(BlobRegistry):
    """The repositories below ``prefix`` (empty, or ending in ``/``) of a registry that speaks ``distribution``. Indexes
    are kept in ``cache``, and moved again only if they changed."""

    has_parts = True

    def __init__(
        self, name: str, address: str, distribution: Distribution, prefix: str, cache: DocumentCache | None = None
    ) -> None:
        super().__init__(name, address)
        self._cache = cache
        self._api = distribution
        self._prefix = prefix
        self._there = False
        self._held: dict[Digest, str] = {}  # blobs that were seen, and in which repository: to be mounted from there
        self._lock = Lock()

    def rebuild_index(self, name: PackageName) -> tuple[Listing, ...]:
        with self._faults():
            self._prepare(init=False)
            tags = self._tags(name)
            if not tags.releases and not tags.versions:
                raise NotFoundError("package-not-found", f"{self} has no package {name}", package=name)
            return self._update_index(name, tags, afresh=True)

    def _listings(self, name: PackageName) -> tuple[Listing, ...] | None:
        self._prepare(init=False)
        tags = self._tags(name)
        if not tags.releases and not tags.versions:
            return None
        return self._derived(name, tags, self._index(name, tags), self._from_record) or None

    def _packages(self) -> tuple[PackageName, ...] | None:
        self._prepare(init=False)
        names = []
        try:
            for repository in self._api.repositories():
                if repository.startswith(self._prefix):
                    try:
                        names.append(PackageName.parse(repository[len(self._prefix) :]))
                    except UsageError:
                        continue  # not ours
        except (NotFoundError, LoginNeededError, RegistryError):
            return None  # many registries don't tell everybody what they hold
        return tuple(sorted(names))

    def _check(self, *, write: bool) -> Iterator[Ability]:
        yield from self._api.check()
        packages = self._packages()
        yield listing_ability(packages)
        if packages:
            known = lists_referrers(self._api, self._at(packages[0]))
            words = "listed by the registry (referrers)" if known else "no referrers API: a tag lists them instead"
            yield Ability("attachments", known or None, words)
        yield Ability("create only", False, "a tag can be overwritten: publishing looks before and after it tags")
        if write:
            repository = f"{self._prefix}adpm-check"
            self._api.try_upload(repository)
            yield Ability("writes", True, f"an upload to {repository} was begun, and cancelled")
        else:
            yield Ability("writes", None, "not tried; --write begins an upload, and cancels it")

    def _release_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        return self._api.manifest_chunks(self._at(name), blob)

    def _blob_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        return self._api.blob_chunks(self._at(name), blob)

    def _part_chunks(self, name: PackageName, blob: Blob, start: int, stop: int | None) -> Generator[bytes]:
        return self._api.blob_chunks(self._at(name), blob, start, stop)

    def _prepare(self, *, init: bool) -> None:  # noqa: ARG002 - repositories appear when they are written to
        with self._lock:
            if self._there:
                return
            if not self._api.is_there():
                raise NotFoundError(
                    "registry-not-found",
                    f"there is no OCI registry at {self.address}",
                    cause="the server does not know the path /v2/",
                    hint=f"check the url of registry {self.name}",
                    registry=self.name,
                )
            self._there = True

    def _check_version(self, listing: Listing) -> None:
        if not is_tag(str(listing.version)):
            raise UsageError(
                "version-untaggable",
                f"{self} can't hold {listing.name} {listing.version}",
                cause="in an OCI registry a version is a tag, and a tag has no '!'",
                hint="give it a version without an epoch, or publish it to a directory or an object store",
            )
        super()._check_version(listing)

    def _releases(self, name: PackageName, version: Version) -> tuple[Digest, ...]:
        return self._claimed(name, version, self._tags(name), self._tagged(name, version))

    def _claimed(self, name: PackageName, version: Version, tags: Tags, *known: Digest | None) -> tuple[Digest, ...]:
        """The releases that claim a version: those that are ``known``, and those of its commit points."""
        out = {digest for digest in known if digest is not None}
        for mark in tags.releases:
            if mark[0] == version and not any(digest.hex.startswith(mark[1]) for digest in out):
                record = self._record(name, RELEASE, mark)
                out |= set() if record is None else {record.manifest.digest}
        return tuple(sorted(out))

    def _has_blob(self, name: PackageName, blob: Blob) -> bool:
        found = self._api.has_blob(self._at(name), blob.digest)
        if found:
            self._held[blob.digest] = self._at(name)
        return found

    def _put_blob(self, name: PackageName, blob: Blob, chunks: Iterable[bytes]) -> None:
        upload(self._api, self._at(name), blob, chunks, mount=self._held.get(blob.digest))
        self._held[blob.digest] = self._at(name)

    def _commit(self, listing: Listing, manifest: bytes) -> Published:
        name, version, mark = listing.name, listing.version, mark_of(listing)
        tags, tagged = self._tags(name), self._tagged(name, version)
        created = mark not in tags.releases and tagged != listing.manifest.digest
        if mark not in tags.releases:
            self._api.put_manifest(self._at(name), listing.manifest.digest, manifest, MANIFEST_TYPE)
            self._put_record(RELEASE, listing)
            tags = self._tags(name)  # of two that claim the version at the same time, one at least sees the other
        self._refuse_others(listing, tags, tagged)
        if tagged is None:
            self._api.put_manifest(self._at(name), str(version), manifest, MANIFEST_TYPE)
            self._refuse_others(listing, tags, self._tagged(name, version))
        listings = self._update_index(name, tags)
        return Published(next(entry for entry in listings if mark_of(entry) == mark), created)

    def _refuse_others(self, listing: Listing, tags: Tags, tagged: Digest | None) -> None:
        ours = listing.manifest.digest
        for digest in self._claimed(listing.name, listing.version, tags, ours, tagged):
            if digest != ours:
                raise version_taken(self, listing, digest)

    def _yank(self, listing: Listing, reason: str) -> bool:
        tags = self._tags(listing.name)
        created = mark_of(listing) not in tags.yanks
        if created:
            self._put_record(YANK, replace(listing, yanked=reason))
            tags = self._tags(listing.name)
        self._update_index(listing.name, tags)
        return created

    def _channel(self, name: PackageName, channel: Channel) -> Digest | None:
        self._prepare(init=False)
        data = self._api.manifest(self._at(name), channel)
        return None if data is None or data == _NO_RELEASE else Digest.of(data)

    def _channels(self, name: PackageName) -> dict[Channel, Digest] | None:
        self._prepare(init=False)
        found = ((channel, self._channel(name, channel)) for channel in sorted(self._tags(name).channels))
        return {channel: digest for channel, digest in found if digest is not None}

    def _set_channel(self, name: PackageName, channel: Channel, target: Listing | None) -> None:
        if target is None:
            self._api.put_manifest(self._at(name), channel, _NO_RELEASE, INDEX_TYPE)
        else:
            self._api.put_manifest(self._at(name), channel, self.release(name, target.manifest), MANIFEST_TYPE)

    def _attachments(self, name: PackageName, release: Blob) -> tuple[Attachment, ...]:
        self._prepare(init=False)
        return referrers(self._api, self._at(name), release.digest)

    def _attach(self, name: PackageName, release: Blob, manifest: bytes, sources: Mapping[Blob, Path | bytes]) -> None:
        self._prepare(init=False)
        for blob, source in sources.items():
            self._send(name, blob, [source] if isinstance(source, bytes) else Source(source, blob))
        add_referrer(self._api, self._at(name), release.digest, manifest)

    def _at(self, name: PackageName) -> str:
        return self._prefix + name

    def _tags(self, name: PackageName) -> Tags:
        tags = self._api.tags(self._at(name))
        return _NOTHING if tags is None else read_tags(tags)

    def _tagged(self, name: PackageName, version: Version) -> Digest | None:
        """The digest of what the version's tag holds, whatever that is."""
        data = self._api.manifest(self._at(name), str(version))
        return None if data is None else Digest.of(data)

    def _index(self, name: PackageName, tags: Tags) -> tuple[Listing, ...]:
        """What ``_index`` lists; nothing if it is damaged: it is derived, and spares requests, no more."""
        if not tags.index:
            return ()
        url = self._api.at(self._at(name), f"manifests/{INDEX}")
        known = None if self._cache is None else self._cache.get(url)
        document = self._api.changed(self._at(name), INDEX, known)
        if document is None:
            return ()
        if self._cache is not None and document is not known:
            self._cache.put(url, document)
        try:
            return read_index(document.data, name, f"the index of {name} in {self}")
        except DocumentError:
            return ()

    def _update_index(self, name: PackageName, tags: Tags, *, afresh: bool = False) -> tuple[Listing, ...]:
        """Write ``_index`` unless it lists exactly what the tags say. A writer that is overtaken loses entries of
        others, which readers then take from the tags, and the next writer adds."""
        before = () if afresh else self._index(name, tags)
        listings = self._derived(name, tags, before, self._from_card if afresh else self._from_record)
        if afresh or listings != before:
            self._api.put_manifest(self._at(name), INDEX, _within_limit(listings), INDEX_TYPE)
        return listings

    def _derived(
        self,
        name: PackageName,
        tags: Tags,
        known: tuple[Listing, ...],
        read: Callable[[PackageName, Mark], Listing | None],
    ) -> tuple[Listing, ...]:
        """All releases by version, as the tags say. Those that are ``known`` are not ``read``."""
        by_mark = {mark_of(listing): listing for listing in known}
        claimed = {version for version, _ in tags.releases}
        out = {mark: by_mark[mark] for mark in tags.releases if mark in by_mark}
        jobs: list[Callable[[], Listing | None]] = [
            partial(read, name, mark) for mark in tags.releases if mark not in out
        ]
        for version in tags.versions - claimed:
            found = {mark: listing for mark, listing in by_mark.items() if mark[0] == version}
            out |= found
            if not found:
                jobs.append(partial(self._foreign, name, version))
        out |= {mark_of(listing): listing for listing in _all(jobs)}
        return self._with_yanks(name, tags, out)

    def _with_yanks(self, name: PackageName, tags: Tags, found: Mapping[Mark, Listing]) -> tuple[Listing, ...]:
        unread = [mark for mark, entry in found.items() if mark in tags.yanks and entry.yanked is None]
        yanked = {
            mark_of(entry): entry.yanked for entry in _all([partial(self._record, name, YANK, m) for m in unread])
        }
        out = []
        for mark, listing in found.items():
            reason = (yanked.get(mark, "") if mark in unread else listing.yanked) if mark in tags.yanks else None
            out.append(listing if reason == listing.yanked else replace(listing, yanked=reason))
        return tuple(sorted(out, key=lambda entry: (entry.version, entry.manifest.digest)))

    def _put_record(self, kind: str, listing: Listing) -> None:
        self._api.put_manifest(
            self._at(listing.name), tag_of(kind, mark_of(listing)), write_index([listing]), INDEX_TYPE
        )

    def _record(self, name: PackageName, kind: str, mark: Mark) -> Listing | None:
        """What a record says of its release; None if it was removed by now."""
        tag = tag_of(kind, mark)
        data = self._api.manifest(self._at(name), tag)
        if data is None:
            return None
        source = f"the tag {tag} of {name} in {self}"
        try:
            (listing,) = read_index(data, name, source)
            same = mark_of(listing) == mark
        except ValueError:
            same = False
        if not same:
            raise DocumentError(
                "registry-invalid", source, [Fault("", "does not list the release that it is named after")]
            )
        return listing

    def _from_record(self, name: PackageName, mark: Mark) -> Listing | None:
        return self._record(name, RELEASE, mark)

    def _from_card(self, name: PackageName, mark: Mark) -> Listing | None:
        """What a record says, but what the card knows better."""
        listing = self._record(name, RELEASE, mark)
        if listing is None:
            return None
        what = f"{name} {mark[0]} in {self}"
        release = read_release(self.release(name, listing.manifest), f"the release {what}")
        card = read_card(self.card(name, release.card), f"the card of {what}")
        return replace(listing, requires=card.requires, base=card.base)

    def _foreign(self, name: PackageName, version: Version) -> Listing | None:
        """A release that was tagged without adpm, from its own documents; None if it is none, or another one.

        It was published when the registry took its manifest, where that says so.
        """
        found = self._api.manifest_and_time(self._at(name), str(version))
        if found is None:
            return None
        try:
            release = read_release(found[0], f"{name} {version} in {self}")
            card = read_card(self.card(name, release.card), f"the card of {name} {version} in {self}")
        except DocumentError:
            return None  # an image, or whatever else people tag
        if (card.name, card.version) != (name, version):
            return None
        return Listing.of(card, release.manifest, found[1])


def _all(jobs: list[Callable[[], Listing | None]]) -> list[Listing]:
    """What ``jobs`` give, in no order."""
    out: list[Listing] = []

    def run(job: Callable[[], Listing | None]) -> None:
        listing = job()
        if listing is not None:
            out.append(listing)

    in_parallel(run, jobs, threads=connections(), first=limits.CONNECTIONS_FIRST)
    return out


def _within_limit(listings: tuple[Listing, ...]) -> bytes:
    """The index of as many as fit into what registries take, the newest versions first."""
    while len(data := write_index(listings)) > limits.OCI_MANIFEST_BYTES:
        listings = listings[len(listings) // 8 + 1 :]
    return data
