"""The port: what every registry can be asked, and what all of them guarantee.

The guarantees are written here once: documents are bounded and strictly read, what is handed out whole was hashed, a
release is published blobs first and never twice with different content, and errors are adpm's own. A backend moves
bytes in the methods whose names begin with ``_``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from packaging.version import Version

from adpm import limits
from adpm.core.names import Channel, Digest, PackageName
from adpm.core.release import Attachment, Blob, Card, Listing, Release
from adpm.errors import DocumentError, IntegrityError, NotFoundError, RegistryError, UsageError
from adpm.formats.card import read_card
from adpm.formats.oci import read_index, read_release, write_index
from adpm.registry.confirm import confirm
from adpm.registry.mirrors import Mirrors
from adpm.registry.place import Ability
from adpm.store.files import file_chunks
from adpm.store.put import mismatch

__all__ = [
    "BlobRegistry",
    "Confirmed",
    "IndexedRegistry",
    "Opener",
    "Publication",
    "Published",
    "Registry",
    "Source",
    "channel_yanked",
    "source_chunks",
]


@dataclass(frozen=True, slots=True)
class Publication:
    """A release to publish: the bytes of its manifest and card, where each file's bytes lie, and the time.

    ``published`` is RFC 3339 in UTC (``2026-01-31T12:00:00Z``).
    """

    manifest: bytes
    card: bytes
    sources: Mapping[Digest, Path]
    published: str


@dataclass(frozen=True, slots=True)
class Published:
    """What the registry lists now, and whether that is new: publishing the same release again changes nothing."""

    listing: Listing
    created: bool


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A release whose index entry, manifest and card agree; the bytes are as the digests say."""

    release: Release
    card: Card
    manifest_data: bytes
    card_data: bytes


class Registry(ABC):
    """One registry. ``name`` is what the project calls it, ``address`` where it is, without secrets.

    Threads may share it. Errors of all methods: ``RegistryError`` (``registry-invalid``, ``registry-failed``),
    ``NotFoundError`` (``registry-not-found``), and what the way to it adds (``LoginNeededError``, ``NetworkError``).
    """

    has_parts: bool = False
    """Whether pieces of one blob are worth asking for at once."""
    has_files: bool = False
    """Whether large blobs arrive as files that others keep on this machine."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._mirrors: Mirrors | None = None

    def mirrored(self, mirrors: Mirrors) -> Self:
        """This registry, whose releases, cards and blobs its ``mirrors`` are asked for first.

        What there is, the registry itself says, and no mirror: not even where it can't be reached.
        """
        self._mirrors = mirrors
        return self

    def notes(self) -> list[str]:
        """What a user should know of its mirrors, a sentence each."""
        return [] if self._mirrors is None else self._mirrors.faults()

    def __str__(self) -> str:
        return f"registry {self.name} ({self.address})"

    def versions(self, name: PackageName) -> tuple[Listing, ...]:
        """All releases of a package, by version. Cost: one document.

        Where two releases claim one version, both are listed as yanked, with a reason that names both: nobody gets
        one by chance, and who has locked one keeps it. Raises ``NotFoundError`` (``package-not-found``).
        """
        with self._faults():
            listings = self._listings(name)
        if listings is None:
            raise NotFoundError(
                "package-not-found", f"{self} has no package {name}", hint="check the spelling", package=name
            )
        return _conflicts_marked(listings)

    def listing(self, name: PackageName, version: Version) -> Listing:
        """The release of a version, the first of two that claim it. Cost: one document.

        Raises ``NotFoundError`` (``package-not-found``, ``version-not-found``).
        """
        return self._claiming(name, version)[0]

    def _claiming(self, name: PackageName, version: Version) -> list[Listing]:
        """The releases of a version, at least one."""
        listings = self.versions(name)
        found = [listing for listing in listings if listing.version == version]
        if not found:
            raise NotFoundError(
                "version-not-found",
                f"{self} has no version {version} of {name}",
                hint=f"there are: {', '.join(str(listing.version) for listing in reversed(listings))}",
            )
        return found

    def packages(self) -> tuple[PackageName, ...] | None:
        """The names of all packages, sorted; None where this kind of registry can't tell. Cost: may walk all."""
        with self._faults():
            return self._packages()

    def release(self, name: PackageName, blob: Blob) -> bytes:
        """The verified bytes of a manifest: a release's, or that of an attachment."""
        found = None if self._mirrors is None else self._mirrors.document(lambda mirror: mirror.release(name, blob))
        return found or self._whole(name, blob, self._release_chunks(name, blob), limits.OCI_MANIFEST_BYTES)

    def card(self, name: PackageName, blob: Blob) -> bytes:
        """The verified bytes of a card."""
        found = None if self._mirrors is None else self._mirrors.document(lambda mirror: mirror.card(name, blob))
        return found or self._whole(name, blob, self._blob_chunks(name, blob), limits.CARD_BYTES)

    def blob(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        """The bytes of a blob as they arrive, **not** verified: give them to ``Store.put`` with the blob expected.

        Raises ``NotFoundError`` (``blob-missing``).
        """
        found = None if self._mirrors is None else self._mirrors.blob(name, blob)
        if found is not None:
            yield from found
            return
        with self._faults(name, blob):
            yield from self._blob_chunks(name, blob)

    def part(self, name: PackageName, blob: Blob, start: int, stop: int | None = None) -> Generator[bytes]:
        """The bytes of a blob from ``start`` on, as ``blob`` gives them all.

        ``stop`` is where one piece of several ends; where it ``gives_parts``, more comes only from a server that
        knows no ranges: it is passed on if ``start`` is 0, else that is ``RangesIgnoredError``.
        """
        if self._mirrors is not None:
            with closing(self.blob(name, blob)) as chunks:
                yield from skipped(chunks, start)
            return
        with self._faults(name, blob):
            yield from self._part_chunks(name, blob, start, stop)

    @property
    def gives_parts(self) -> bool:
        """Whether pieces of one blob may be asked for at once: a mirror, which is checked first, is asked for all."""
        return self.has_parts and self._mirrors is None

    @property
    def gives_files(self) -> bool:
        """Whether ``file`` is worth asking."""
        return self.has_files and self._mirrors is None

    def file(self, name: PackageName, blob: Blob) -> Path | None:
        """A file of this machine with the bytes of a blob, **not** verified: give it to ``Batch.share``.

        It is brought there if need be. None where the registry has the bytes but no such file. Raises
        ``NotFoundError`` (``blob-missing``).
        """
        with self._faults(name, blob):
            return self._file(name, blob)

    def confirmed(self, listing: Listing) -> Confirmed:
        """Fetch manifest and card of a listed release and check that they say what the index said. Cost: two blobs.

        Raises ``IntegrityError`` (``index-mismatch``, ``digest-mismatch``): what an index says is a hint until then.
        """
        what = f"{listing.name} {listing.version} in registry {self.name}"
        manifest = self.release(listing.name, listing.manifest)
        release = read_release(manifest, f"the release {what}")
        data = self.card(listing.name, release.card)
        card = read_card(data, f"the card of {what}")
        confirm(listing, card, where=str(self))
        return Confirmed(release, card, manifest, data)

    def publish(self, publication: Publication, *, init: bool = False) -> Published:
        """Add a release. Blobs that the registry has are not sent; those of others never change.

        ``init`` makes the registry where there is none yet. Raises ``RegistryError`` (``version-taken``) if the version
        is there with other content, (``registry-read-only``), and ``IntegrityError`` (``file-changed``) if a source is
        not what the manifest says of it; then the registry is as before, but for blobs that nothing names.
        """
        release = read_release(publication.manifest, "the release to publish")
        card = read_card(publication.card, "the card to publish")
        if Blob.of(publication.card) != release.card:
            raise IntegrityError("file-changed", "the card is not the one that the release names", blob=release.card)
        listing = Listing.of(card, release.manifest, publication.published)
        read_index(write_index([listing]), card.name, "the entry in the index")  # or nobody could read it any more
        with self._faults():
            self._prepare(init=init)
            self._check_version(listing)
            return self._add(listing, release, publication)

    def yank(self, name: PackageName, version: Version, reason: str) -> bool:
        """Advise against a release: only who has locked it gets it. False, and no change, if it was yanked before.

        Raises ``NotFoundError`` (``version-not-found``, ``package-not-found``), ``UsageError`` (``reason-invalid``).
        """
        _check_reason(reason)
        with self._faults():
            self._prepare(init=False)
        found = self._claiming(name, version)
        with self._faults():
            changed = [self._yank(listing, reason) for listing in found]
        return any(changed)

    def channel(self, name: PackageName, channel: Channel) -> Digest | None:
        """The release that a channel means now, listed or not; None where there is no such channel. Cost: one document.

        Raises ``RegistryError`` (``channels-unsupported``) where this kind of registry has no channels.
        """
        with self._faults():
            return self._channel(name, channel)

    def channels(self, name: PackageName) -> dict[Channel, Digest] | None:
        """What all channels of a package mean now, by name; None where they can't be listed. Raises as ``channel``.

        Cost: one list, and one document for each channel that there ever was.
        """
        with self._faults():
            return self._channels(name)

    def set_channel(self, name: PackageName, channel: Channel, version: Version | None) -> Digest | None:
        """Let a channel mean the release of ``version``, or with None nothing any more; what it meant before.

        Of two writers at once the later one wins; a reader sees what one of them wrote. Raises ``NotFoundError``
        (``package-not-found``, ``version-not-found``), ``RegistryError`` (``channel-yanked``, ``registry-read-only``)
        for a release that was yanked or is in conflict, and as ``channel``.
        """
        with self._faults():
            self._prepare(init=False)
        target = None
        if version is None:
            self.versions(name)
        else:
            target = self.listing(name, version)
            if target.yanked is not None:
                raise channel_yanked(self, channel, target)
        with self._faults():
            try:
                before = self._channel(name, channel)
            except DocumentError:  # it is written anew
                before, same = None, False
            else:
                same = before == (None if target is None else target.manifest.digest)
            if not same:
                self._set_channel(name, channel, target)
        return before

    def attachments(self, name: PackageName, release: Blob) -> tuple[Attachment, ...]:
        """What others attached to a release: signatures, evaluations. Cost: one document, or two.

        Raises ``RegistryError`` (``attachments-unsupported``) where this kind of registry holds none.
        """
        with self._faults():
            return self._attachments(name, release)

    def attach(self, name: PackageName, release: Blob, manifest: bytes, sources: Mapping[Blob, Path | bytes]) -> None:
        """Attach to a release what ``manifest`` names; ``sources`` are its blobs. What is attached already stays.

        Raises as ``attachments``; ``IntegrityError`` (``file-changed``) if a source is not what its blob says.
        """
        with self._faults():
            self._attach(name, release, manifest, sources)

    def check(self, *, write: bool = False) -> Iterator[Ability]:
        """What the registry can and can't do, tried now, one after the other.

        Nothing is written unless ``write``, and what that writes is removed again. Raises the errors of what must work
        for anything to work: reaching the registry, and reading from it.
        """
        with self._faults():
            yield from self._check(write=write)

    def _check(self, *, write: bool) -> Iterator[Ability]:  # noqa: ARG002 - for kinds that have more to say
        packages = self._packages()
        yield listing_ability(packages)

    def _check_version(self, listing: Listing) -> None:
        """Refuse a version that is there with other content."""
        others = [
            digest for digest in self._releases(listing.name, listing.version) if digest != listing.manifest.digest
        ]
        if others:
            raise version_taken(self, listing, others[0])

    def _whole(self, name: PackageName, blob: Blob, chunks: Generator[bytes], limit: int) -> bytes:
        if blob.size > limit:
            raise IntegrityError(
                "blob-too-large", f"{self} says {blob.digest} has {blob.size} bytes, at most {limit} are allowed"
            )
        out = bytearray()
        with self._faults(name, blob), closing(chunks):  # an error must not leave its connection open
            for chunk in chunks:
                out += chunk
                if len(out) > blob.size:
                    raise mismatch(blob, f"more than {blob.size} bytes arrived from {self}")
        data = bytes(out)
        if len(data) != blob.size or Digest.of(data) != blob.digest:
            raise mismatch(blob, f"{len(data)} bytes with {Digest.of(data)} arrived from {self}")
        return data

    @contextmanager
    def _faults(self, name: PackageName | None = None, blob: Blob | None = None) -> Iterator[None]:
        """Backends may let ``OSError`` pass; ``FileNotFoundError`` means, of a blob, that it is not there."""
        try:
            yield
        except FileNotFoundError as error:
            if blob is None:
                raise self._failed(error) from error
            raise NotFoundError(
                "blob-missing",
                f"{self} does not hold {blob.digest} of {name}, which it should",
                hint="ask who runs the registry to publish that release again",
                blob=blob,
            ) from error
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> RegistryError:
        return RegistryError(
            "registry-failed",
            f"{self} could not be used",
            cause=str(error),
            hint="check its permissions and free space; the same command can be run again",
        )

    @abstractmethod
    def _listings(self, name: PackageName) -> tuple[Listing, ...] | None:
        """What the registry lists of a package, by version; None where there is no such package."""

    @abstractmethod
    def _packages(self) -> tuple[PackageName, ...] | None: ...

    @abstractmethod
    def _release_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]: ...

    @abstractmethod
    def _blob_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]: ...

    def _part_chunks(self, name: PackageName, blob: Blob, start: int, stop: int | None) -> Generator[bytes]:  # noqa: ARG002 - for those who have parts
        """The bytes from ``start``, up to ``stop`` where the backend ``has_parts``. As it stands: what comes before is
        fetched and passed over."""
        with closing(self._blob_chunks(name, blob)) as chunks:
            yield from skipped(chunks, start)

    def _file(self, name: PackageName, blob: Blob) -> Path | None:  # noqa: ARG002 - for those who have files
        return None

    @abstractmethod
    def _prepare(self, *, init: bool) -> None:
        """Check that the registry is there and takes writes; make it if it is not there and ``init``."""

    @abstractmethod
    def _releases(self, name: PackageName, version: Version) -> tuple[Digest, ...]:
        """The releases that claim a version: normally none or one. From what decides, not from the index."""

    @abstractmethod
    def _add(self, listing: Listing, release: Release, publication: Publication) -> Published:
        """Make the release part of the registry, with all of its bytes; see ``publish``."""

    @abstractmethod
    def _yank(self, listing: Listing, reason: str) -> bool: ...

    def _channel(self, name: PackageName, channel: Channel) -> Digest | None:
        raise self._no_channels(f"{name}@{channel}")

    def _channels(self, name: PackageName) -> dict[Channel, Digest] | None:
        raise self._no_channels(f"the channels of {name}")

    def _set_channel(self, name: PackageName, channel: Channel, target: Listing | None) -> None:  # noqa: ARG002 - for kinds that have channels
        """Let the channel mean ``target`` from now on, whatever it means; None: nothing."""
        raise self._no_channels(f"{name}@{channel}")

    def _attachments(self, name: PackageName, release: Blob) -> tuple[Attachment, ...]:  # noqa: ARG002 - as above
        raise self._no_attachments(name)

    def _attach(
        self,
        name: PackageName,
        release: Blob,  # noqa: ARG002 - for kinds that hold attachments
        manifest: bytes,  # noqa: ARG002 - as above
        sources: Mapping[Blob, Path | bytes],  # noqa: ARG002 - as above
    ) -> None:
        raise self._no_attachments(name)

    def _no_attachments(self, name: PackageName) -> RegistryError:
        return RegistryError(
            "attachments-unsupported",
            f"{self} holds no attachments, and so none of {name}",
            cause="they are OCI manifests with a subject, which only OCI registries list",
            hint="publish the release to an OCI registry, too: it has the same digest there",
        )

    def _no_channels(self, what: str) -> RegistryError:
        return RegistryError(
            "channels-unsupported",
            f"{self} has no channels, and so not {what}",
            cause="registries of this kind can't keep them",
            hint="ask for versions, such as '>=1.2', or keep the package in another registry",
        )


class IndexedRegistry(Registry):
    """A registry that derives its indexes itself."""

    @abstractmethod
    def rebuild_index(self, name: PackageName) -> tuple[Listing, ...]:
        """Derive the index anew from what decides and the cards alone; what it lists. Cost: every card is read.

        Raises ``NotFoundError`` (``package-not-found``), and the errors of a release that is damaged.
        """


Opener = Callable[[str, str, Path, Path | None], Registry]
"""(name, URL, the directory that relative paths start from, where documents may be cached) to a registry."""


class BlobRegistry(IndexedRegistry):
    """A registry that takes blobs one by one, by their digests, and then the release that names them."""

    def _add(self, listing: Listing, release: Release, publication: Publication) -> Published:
        self._send(listing.name, release.card, [publication.card])
        for blob in dict.fromkeys(file.blob for file in release.files):
            self._send(listing.name, blob, Source(publication.sources[blob.digest], blob))
        return self._commit(listing, publication.manifest)

    def _send(self, name: PackageName, blob: Blob, chunks: Iterable[bytes]) -> None:
        if not self._has_blob(name, blob):
            self._put_blob(name, blob, chunks)

    @abstractmethod
    def _has_blob(self, name: PackageName, blob: Blob) -> bool: ...

    @abstractmethod
    def _put_blob(self, name: PackageName, blob: Blob, chunks: Iterable[bytes]) -> None:
        """Store a blob whole or not at all: an error of ``chunks`` leaves nothing under its name. They may be gone
        through again."""

    @abstractmethod
    def _commit(self, listing: Listing, manifest: bytes) -> Published:
        """Make the release part of the registry, all of its blobs being there; see ``publish``."""


def skipped(chunks: Iterable[bytes], count: int) -> Generator[bytes]:
    """``chunks`` without the first ``count`` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:] if count else chunk
        count -= min(count, len(chunk))


def listing_ability(packages: tuple[PackageName, ...] | None) -> Ability:
    if packages is None:
        return Ability("listing", False, "packages can't be listed: they must be asked for by name")
    return Ability("listing", True, f"{len(packages)} package{'' if len(packages) == 1 else 's'}")


def version_taken(registry: Registry, listing: Listing, other: Digest) -> RegistryError:
    return RegistryError(
        "version-taken",
        f"{registry} has {listing.name} {listing.version} already, with other content",
        cause=f"published is {other}, this is {listing.manifest.digest}",
        hint="a version never changes once it is published: raise 'version:' in the package's adapter.yaml",
        published=other,
    )


def channel_yanked(registry: Registry, channel: Channel, target: Listing) -> RegistryError:
    return RegistryError(
        "channel-yanked",
        f"{target.name}@{channel} can't mean {target.version}, which was yanked in {registry}",
        cause=target.yanked or "no reason was given",
        hint=f"let it mean another release: 'adpm channel set {target.name} {channel} VERSION "
        f"--registry {registry.name}'",
    )


def _check_reason(reason: str) -> None:
    fault = None
    if len(reason) > limits.YANK_REASON_CHARACTERS:
        fault = f"it has {len(reason)} characters, at most {limits.YANK_REASON_CHARACTERS} are allowed"
    elif not reason.isprintable():
        fault = "it has control characters or bytes that are no text"
    if fault is not None:
        raise UsageError(
            "reason-invalid", "the reason can't be kept", cause=fault, hint="say it in one line, or link to a page"
        )


def _conflicts_marked(listings: tuple[Listing, ...]) -> tuple[Listing, ...]:
    digests: dict[Version, list[Digest]] = {}
    for listing in listings:
        digests.setdefault(listing.version, []).append(listing.manifest.digest)
    return tuple(
        replace(listing, yanked=f"conflict: {' and '.join(digests[listing.version])} both claim this version")
        if len(digests[listing.version]) > 1
        else listing
        for listing in listings
    )


class Source:
    """A file's bytes, checked while they pass against what the manifest says; from the beginning each time."""

    def __init__(self, path: Path, blob: Blob) -> None:
        self._path = path
        self._blob = blob

    def __iter__(self) -> Iterator[bytes]:
        return source_chunks(self._path, self._blob)


def source_chunks(path: Path, blob: Blob) -> Iterator[bytes]:
    """A file's bytes, checked while they pass against what the manifest says; ``IntegrityError`` (``file-changed``)."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in file_chunks(path):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
    except OSError as error:
        raise IntegrityError(
            "file-changed", f"{path} can't be read any more", cause=str(error), hint="run the same command again"
        ) from error
    if size != blob.size or digest.hexdigest() != blob.digest.hex:
        raise IntegrityError(
            "file-changed",
            f"{path} changed while it was published",
            cause=f"the release names {blob.digest}, the file now has sha256:{digest.hexdigest()}",
            hint="run the same command again when nothing writes to that directory",
        )
