"""A registry laid out as files in a place: the layout is here, the bytes are moved by the place."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from packaging.version import Version

from adpm import limits
from adpm.core.names import Channel, Digest, PackageName
from adpm.core.release import Blob, Listing
from adpm.errors import DocumentError, NotFoundError, RegistryError, UsageError
from adpm.formats.card import read_card
from adpm.formats.oci import LAYOUT, read_index, read_release
from adpm.registry.confirm import confirm
from adpm.registry.index import derive_index, extend_index
from adpm.registry.measure import measured_writes
from adpm.registry.place import Ability, Content, Place, WritablePlace
from adpm.registry.port import BlobRegistry, Published, listing_ability, version_taken
from adpm.registry.records import (
    MARKER,
    MARKER_DATA,
    Claim,
    Note,
    blob_path,
    channel_path,
    channel_record,
    claim_path,
    claims,
    notes_path,
    package_path,
    read_channel_record,
    read_marker,
    read_note,
    read_release_record,
    record_path,
    release_record,
    write_note,
    yank_record,
)

__all__ = ["PlacedRegistry"]


class PlacedRegistry(BlobRegistry):
    """The layout of ``specs/registry.md`` over ``place``. A place that takes no writes makes it read-only."""

    def __init__(self, name: str, address: str, place: Place) -> None:
        super().__init__(name, address)
        self.has_parts = place.has_parts
        self._place = place
        self._checked = False
        self._lock = Lock()

    def rebuild_index(self, name: PackageName) -> tuple[Listing, ...]:
        with self._faults():
            self._prepare(init=False)
            place = self._writable()
            if not any(claims(place.list(package_path(name, "releases/")))):
                raise NotFoundError("package-not-found", f"{self} has no package {name}", package=name)
            with place.exclusive(package_path(name, "")):
                return derive_index(place, name, lambda claim: self._listing_of(name, claim))

    def _listings(self, name: PackageName) -> tuple[Listing, ...] | None:
        self._check_marker()
        try:
            content = self._place.read(package_path(name, "index.json"), limits.INDEX_BYTES)
        except FileNotFoundError:
            return None
        return read_index(content.data, name, f"the index of {name} in {self}")

    def _packages(self) -> tuple[PackageName, ...] | None:
        self._check_marker()
        place = self._place.writable()
        if isinstance(place, str):
            return None  # what takes no writes does not list either
        names = []
        for path in place.list("packages/"):
            name, _, rest = path.rpartition("/")
            if rest == "index.json":
                try:
                    names.append(PackageName.parse(name))
                except UsageError:
                    continue  # not ours
        return tuple(sorted(names))

    def _check(self, *, write: bool) -> Iterator[Ability]:
        yield from self._place.check(write=False)
        self._check_marker()
        yield Ability("registry", True, "format 1")
        place = self._place.writable()
        if isinstance(place, str):
            yield listing_ability(None)
            yield Ability("writes", False, place)
            return
        yield listing_ability(self._packages())
        if not write:
            yield Ability("writes", None, "not tried; --write tries, and removes what it wrote")
            return
        yield from measured_writes(place)
        yield from place.check(write=True)

    def _release_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        return self._blob_chunks(name, blob)

    def _blob_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        return self._place.stream(blob_path(name, blob.digest), blob.size)

    def _part_chunks(self, name: PackageName, blob: Blob, start: int, stop: int | None) -> Generator[bytes]:
        part = self._place.part(blob_path(name, blob.digest), blob.size, start, stop)
        return part if part is not None else super()._part_chunks(name, blob, start, stop)

    def _prepare(self, *, init: bool) -> None:
        place = self._writable()
        if init:
            place.create(MARKER, [MARKER_DATA])
        self._check_marker()

    def _check_marker(self) -> None:
        """Once a registry object: that this is a registry, of a format that this adpm knows."""
        with self._lock:
            if self._checked:
                return
            try:
                content = self._place.read(MARKER, limits.RECORD_BYTES)
            except FileNotFoundError:
                raise NotFoundError(
                    "registry-not-found",
                    f"there is no registry at {self.address}",
                    cause=f"it has no {MARKER}",
                    hint=f"check the url of registry {self.name}; where it can be written to, "
                    f"'adpm publish DIR --registry {self.name} --init' makes one",
                    registry=self.name,
                ) from None
            read_marker(content.data, f"{MARKER} of {self}")
            self._checked = True

    def _writable(self) -> WritablePlace:
        place = self._place.writable()
        if isinstance(place, WritablePlace):
            return place
        raise RegistryError(
            "registry-read-only",
            f"{self} can only be read",
            cause=place,
            hint="publish to the directory that the server serves, or to another registry: 'adpm registry list'",
        )

    def _releases(self, name: PackageName, version: Version) -> tuple[Digest, ...]:
        listed = self._writable().list(package_path(name, f"releases/{version}/"))
        return tuple(sorted(digest for _, digest in claims(f"{version}/{rest}" for rest in listed)))

    def _has_blob(self, name: PackageName, blob: Blob) -> bool:
        return self._writable().has(blob_path(name, blob.digest), blob.size)

    def _put_blob(self, name: PackageName, blob: Blob, chunks: Iterable[bytes]) -> None:
        place, path = self._writable(), blob_path(name, blob.digest)
        if not place.create(path, chunks) and not place.has(path, blob.size):
            raise RegistryError(
                "blob-damaged",
                f"{self} holds a damaged {blob.digest} of {name}",
                cause=f"what lies there has not {blob.size} bytes",
                hint=f"remove {path} from the registry, then run the same command again",
            )

    def _commit(self, listing: Listing, manifest: bytes) -> Published:
        name, claim = listing.name, (listing.version, listing.manifest.digest)
        place = self._writable()
        with place.exclusive(package_path(name, "")):
            self._check_version(listing)  # again: now nobody else can commit
            self._send(name, listing.manifest, [manifest])
            place.create(package_path(name, "oci-layout"), [LAYOUT])
            first = place.claim(claim_path(name, listing.version), listing.manifest.digest)
            if first != listing.manifest.digest:
                raise version_taken(self, listing, first)
            with self._noted(place, name, claim) as changed:
                created = place.create(record_path("releases", name, claim), [release_record(listing)])
                ours = {claim: listing} if created else {}
                listings = extend_index(place, name, changed, lambda one: ours.get(one) or self._listing_of(name, one))
        by_claim = {(entry.version, entry.manifest.digest): entry for entry in listings}
        for version, digest in by_claim:
            if version == listing.version and digest != listing.manifest.digest:
                raise version_taken(self, listing, digest)
        return Published(by_claim[claim], created)

    def _yank(self, listing: Listing, reason: str) -> bool:
        name, claim = listing.name, (listing.version, listing.manifest.digest)
        place = self._writable()
        with place.exclusive(package_path(name, "")), self._noted(place, name, claim) as changed:
            created = place.create(record_path("yanks", name, claim), [yank_record(reason)])
            extend_index(place, name, changed, lambda one: self._listing_of(name, one))
        return created

    def _channel(self, name: PackageName, channel: Channel) -> Digest | None:
        self._check_marker()
        tries = limits.CHANNEL_READS
        while True:
            content = self._read_channel(name, channel)
            try:
                return None if content is None else read_channel_record(content.data, f"{name}@{channel} in {self}")
            except DocumentError:
                tries -= 1
                if not tries:
                    raise
                time.sleep(limits.RACE_PAUSE_SECONDS)

    def _channels(self, name: PackageName) -> dict[Channel, Digest] | None:
        self._check_marker()
        place = self._place.writable()
        if isinstance(place, str):
            return None
        out = {}
        for path in sorted(place.list(channel_path(name))):
            try:
                channel = Channel.parse(path)
            except UsageError:
                continue  # not ours
            release = self._channel(name, channel)
            if release is not None:
                out[channel] = release
        return out

    def _set_channel(self, name: PackageName, channel: Channel, target: Listing | None) -> None:
        place, path = self._writable(), channel_path(name, channel)
        data = channel_record(None if target is None else target.manifest.digest)
        with place.exclusive(package_path(name, "")):
            for _ in range(limits.INDEX_TRIES):
                there = self._read_channel(name, channel)
                if place.replace(path, data, None if there is None else there.token):
                    return
                after = self._read_channel(name, channel)
                if after is not None and after.data == data:
                    return  # a place that can't tell has written it
        raise RegistryError(
            "index-contended",
            f"{name}@{channel} could not be written",
            cause=f"others were faster {limits.INDEX_TRIES} times",
            hint="run the same command again",
        )

    def _read_channel(self, name: PackageName, channel: Channel) -> Content | None:
        try:
            return self._place.read(channel_path(name, channel), limits.RECORD_BYTES)
        except FileNotFoundError:
            return None

    @contextmanager
    def _noted(self, place: WritablePlace, name: PackageName, claim: Claim) -> Iterator[list[Claim]]:
        """What the index may lack: ``claim``, which changes inside, and what writers changed who stopped before they
        had written it there. For the next writer the same is noted of ``claim``, as long as this lasts."""
        if not place.swaps:
            yield [claim]  # the index is derived from everything
            return
        notes = notes_path(name)
        left = {note: read_note(note) for note in place.list(notes)}
        mine = write_note(claim, int(time.time()))
        place.create(notes + mine, [b""])
        yield [claim, *(note.claim for note in left.values() if note is not None and self._stopped(place, note))]
        for note, read in left.items():
            if read is None or self._stopped(place, read):
                place.remove(notes + note)
        place.remove(notes + mine)

    def _stopped(self, place: WritablePlace, note: Note) -> bool:
        """Whether the writer of a note can't be at work any more."""
        return place.locks or time.time() - note.since > limits.CLAIM_SECONDS

    def _listing_of(self, name: PackageName, claim: Claim) -> Listing:
        """A committed release, from its own documents."""
        what = f"{name} {claim[0]} in {self}"
        content = self._place.read(record_path("releases", name, claim), limits.RECORD_BYTES)
        manifest, published = read_release_record(content.data, claim[1], f"the commit point of {what}")
        release = read_release(self.release(name, manifest), f"the release {what}")
        card = read_card(self.card(name, release.card), f"the card of {what}")
        listing = Listing.of(card, manifest, published)
        confirm(listing, card, where=str(self))
        return listing
