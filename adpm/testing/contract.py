"""What every registry must do, whatever holds its bytes.

A backend's tests derive from ``WriteContract``, or from ``ReadOnlyContract`` where it takes no writes, and give a
``pair``: the registry under test, empty for each test, and one to publish with (the same where it takes writes).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from packaging.version import Version

from adpm.core.names import Channel, Digest, PackageName
from adpm.core.release import Attachment, Blob
from adpm.errors import DocumentError, IntegrityError, NotFoundError, RegistryError, UsageError
from adpm.formats.attachment import EMPTY, Part, write_attachment
from adpm.formats.card import read_card
from adpm.formats.oci import read_release
from adpm.registry.port import Registry
from adpm.store.store import Store
from adpm.testing.making import NOW, make

__all__ = ["NAME", "Pair", "ReadContract", "ReadOnlyContract", "WriteContract"]

NAME = PackageName("text/sst-2")
PROD = Channel("prod")


@dataclass(frozen=True)
class Pair:
    reader: Registry
    publisher: Registry


class ReadContract:
    """The part that a read-only registry must do too."""

    EPOCHS: ClassVar[tuple[str, ...]] = ("1!0.1",)
    """Versions with an epoch; none where a version must be something that has no ``!``."""

    CHANNELS: ClassVar[bool] = True
    """Whether the registry keeps channels; one that does not refuses them."""

    ATTACHMENTS: ClassVar[bool] = False
    """Whether the registry holds what is attached to releases; one that does not refuses it."""

    LISTS: ClassVar[bool] = True
    """Whether the registry that is published with can list its packages."""

    @pytest.fixture
    def pair(self) -> Pair:
        raise NotImplementedError

    def test_what_was_published_is_listed(self, pair: Pair, tmp_path: Path) -> None:
        publication = make(tmp_path, requires=["lang/en >=1,<2", "lang/de"])
        published = pair.publisher.publish(publication)
        assert published.created
        (listing,) = pair.reader.versions(NAME)
        assert listing == published.listing
        assert (listing.version, listing.published, listing.yanked) == (Version("1.0.0"), NOW, None)
        assert [str(requirement) for requirement in listing.requires] == ["lang/de", "lang/en >=1,<2"]
        assert listing.manifest == Blob(Digest.of(publication.manifest), len(publication.manifest))

    def test_versions_are_in_order(self, pair: Pair, tmp_path: Path) -> None:
        for version in ["1.10", "1.2", "2.0rc1", "1.9", *self.EPOCHS, "2.0"]:
            pair.publisher.publish(make(tmp_path, version=version))
        listed = [str(listing.version) for listing in pair.reader.versions(NAME)]
        assert listed == ["1.2", "1.9", "1.10", "2.0rc1", "2.0", *self.EPOCHS]

    def test_packages_do_not_mix(self, pair: Pair, tmp_path: Path) -> None:
        for name in ["text", "text/sst-2", "text/sst-2/large"]:
            pair.publisher.publish(make(tmp_path, name))
        for name in ["text", "text/sst-2", "text/sst-2/large"]:
            (listing,) = pair.reader.versions(PackageName(name))
            assert pair.reader.confirmed(listing).card.name == name
        assert pair.publisher.packages() == (("text", "text/sst-2", "text/sst-2/large") if self.LISTS else None)

    def test_every_byte_comes_back(self, pair: Pair, tmp_path: Path) -> None:
        files = {"weights.safetensors": hashlib.shake_256(b"w").digest(3_000_000), "empty.txt": b"", "a.json": b"{}"}
        publication = make(tmp_path, files=files)
        pair.publisher.publish(publication)
        (listing,) = pair.reader.versions(NAME)
        assert pair.reader.release(NAME, listing.manifest) == publication.manifest
        release = read_release(publication.manifest, "test")
        assert pair.reader.card(NAME, release.card) == publication.card
        store = Store(tmp_path / "store")
        for file in release.files:
            store.put(pair.reader.blob(NAME, file.blob), file.blob)
            assert bytes(store.map(file.blob)) == files[file.path]

    def test_a_listing_is_confirmed_by_its_card(self, pair: Pair, tmp_path: Path) -> None:
        publication = make(tmp_path)
        pair.publisher.publish(publication)
        (listing,) = pair.reader.versions(NAME)
        confirmed = pair.reader.confirmed(listing)
        assert confirmed.card == read_card(publication.card, "test")
        assert confirmed.release == read_release(publication.manifest, "test")
        assert (confirmed.manifest_data, confirmed.card_data) == (publication.manifest, publication.card)
        with pytest.raises(IntegrityError) as caught:
            pair.reader.confirmed(
                replace(listing, requires=read_card(make(tmp_path, requires=["a"]).card, "").requires)
            )
        assert caught.value.code == "index-mismatch"

    def test_what_is_not_there(self, pair: Pair, tmp_path: Path) -> None:
        pair.publisher.publish(make(tmp_path))
        with pytest.raises(NotFoundError) as caught:
            pair.reader.versions(PackageName("text/other"))
        assert caught.value.code == "package-not-found"
        with pytest.raises(NotFoundError) as caught:
            b"".join(pair.reader.blob(NAME, Blob(Digest.of(b"nowhere"), 7)))
        assert caught.value.code == "blob-missing"

    def test_a_size_that_lies(self, pair: Pair, tmp_path: Path) -> None:
        publication = make(tmp_path)
        listing = pair.publisher.publish(publication).listing
        for size in (listing.manifest.size - 1, listing.manifest.size + 1):
            with pytest.raises(IntegrityError) as caught:
                pair.reader.release(NAME, replace(listing.manifest, size=size))
            assert caught.value.code == "digest-mismatch"
        with pytest.raises(IntegrityError) as caught:
            pair.reader.release(NAME, replace(listing.manifest, size=1 << 40))
        assert caught.value.code == "blob-too-large"

    def test_a_yank_is_listed(self, pair: Pair, tmp_path: Path) -> None:
        for version in ("1.0.0", "1.1.0"):
            pair.publisher.publish(make(tmp_path, version=version))
        assert pair.publisher.yank(NAME, Version("1.1.0"), "trained on test data")
        assert [listing.yanked for listing in pair.reader.versions(NAME)] == [None, "trained on test data"]

    def test_a_channel_means_what_it_was_set_to(self, pair: Pair, tmp_path: Path) -> None:
        one, two = (pair.publisher.publish(make(tmp_path, version=v)).listing for v in ("1.0.0", "2.0.0"))
        if not self.CHANNELS:
            for ask in (lambda: pair.reader.channel(NAME, PROD), lambda: pair.reader.channels(NAME)):
                with pytest.raises(RegistryError) as caught:
                    ask()
                assert caught.value.code == "channels-unsupported"
            with pytest.raises(RegistryError) as caught:
                pair.publisher.set_channel(NAME, PROD, one.version)
            assert caught.value.code == "channels-unsupported"
            return
        assert pair.reader.channel(NAME, PROD) is None
        assert pair.publisher.channels(NAME) == {}
        before = None
        for listing in (one, two, two, one):
            assert pair.publisher.set_channel(NAME, PROD, listing.version) == before
            before = listing.manifest.digest
            assert pair.reader.channel(NAME, PROD) == before
        assert pair.publisher.set_channel(NAME, Channel("beta-2"), two.version) is None
        assert pair.publisher.channels(NAME) == {"beta-2": two.manifest.digest, "prod": one.manifest.digest}
        assert pair.reader.channels(NAME) in (None, pair.publisher.channels(NAME))
        assert pair.reader.versions(NAME) == (one, two)
        assert pair.publisher.set_channel(NAME, PROD, None) == one.manifest.digest
        assert pair.publisher.set_channel(NAME, PROD, None) is None
        assert pair.reader.channel(NAME, PROD) is None
        assert pair.publisher.channels(NAME) == {"beta-2": two.manifest.digest}
        assert pair.publisher.set_channel(NAME, PROD, two.version) is None
        assert pair.reader.channel(NAME, PROD) == two.manifest.digest


class WriteContract(ReadContract):
    """The part that a registry must do that takes writes; ``pair`` gives one registry twice."""

    def test_the_same_again_changes_nothing(self, pair: Pair, tmp_path: Path) -> None:
        first = pair.publisher.publish(make(tmp_path))
        again = pair.publisher.publish(make(tmp_path, published="2027-01-01T00:00:00Z"))
        assert again.listing == first.listing
        assert (first.created, again.created) == (True, False)
        assert pair.reader.versions(NAME) == (first.listing,)

    def test_other_content_under_a_version_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        first = pair.publisher.publish(make(tmp_path))
        with pytest.raises(RegistryError) as caught:
            pair.publisher.publish(make(tmp_path, files={"weights": b"other"}))
        assert caught.value.code == "version-taken"
        assert first.listing.manifest.digest in str(caught.value)
        assert pair.reader.versions(NAME) == (first.listing,)

    def test_a_source_that_changed_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        for data in (b"longer than before", b"sh", b"12345"):
            publication = make(tmp_path, files={"weights": b"abcde"})
            publication.sources[Digest.of(b"abcde")].write_bytes(data)
            with pytest.raises(IntegrityError) as caught:
                pair.publisher.publish(publication)
            assert caught.value.code == "file-changed"
        with pytest.raises(NotFoundError):
            pair.reader.versions(NAME)
        pair.publisher.publish(make(tmp_path, files={"weights": b"abcde"}))

    def test_a_source_that_is_gone_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        publication = make(tmp_path)
        for path in publication.sources.values():
            path.unlink()
        with pytest.raises(IntegrityError) as caught:
            pair.publisher.publish(publication)
        assert caught.value.code == "file-changed"

    def test_a_time_that_is_none_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        with pytest.raises(DocumentError):
            pair.publisher.publish(make(tmp_path, published="yesterday"))
        with pytest.raises(NotFoundError):
            pair.reader.versions(NAME)

    def test_a_card_that_is_not_the_releases_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        publication = replace(make(tmp_path), card=make(tmp_path, version="9").card)
        with pytest.raises(IntegrityError) as caught:
            pair.publisher.publish(publication)
        assert caught.value.code == "file-changed"

    def test_yanking(self, pair: Pair, tmp_path: Path) -> None:
        pair.publisher.publish(make(tmp_path))
        assert pair.publisher.yank(NAME, Version("1.0.0"), "")
        assert not pair.publisher.yank(NAME, Version("1.0.0"), "another reason")
        (listing,) = pair.reader.versions(NAME)
        assert listing.yanked == ""
        assert pair.publisher.publish(make(tmp_path)).listing == listing
        for reason in ("x" * 1001, "two\nlines", "\udcff", "\x1b[31m"):
            with pytest.raises(UsageError) as refused:
                pair.publisher.yank(NAME, Version("1.0.0"), reason)
            assert refused.value.code == "reason-invalid"
        with pytest.raises(NotFoundError) as caught:
            pair.publisher.yank(NAME, Version("2.0"), "")
        assert caught.value.code == "version-not-found"
        with pytest.raises(NotFoundError) as caught:
            pair.publisher.yank(PackageName("text/other"), Version("2.0"), "")
        assert caught.value.code == "package-not-found"

    def test_what_is_attached_to_a_release(self, pair: Pair, tmp_path: Path) -> None:
        release = pair.publisher.publish(make(tmp_path)).listing.manifest
        data = b"seen on test data"
        manifest = write_attachment(release, "text/plain", [Part("notes.txt", Blob.of(data))])
        sources: dict[Blob, Path | bytes] = {Blob.of(part): part for part in (EMPTY, data)}
        if not self.ATTACHMENTS:
            with pytest.raises(RegistryError) as refused:
                pair.publisher.attach(NAME, release, manifest, sources)
            assert refused.value.code == "attachments-unsupported"
            with pytest.raises(RegistryError) as refused:
                pair.reader.attachments(NAME, release)
            assert refused.value.code == "attachments-unsupported"
            return
        assert pair.reader.attachments(NAME, release) == ()
        for _ in range(2):
            pair.publisher.attach(NAME, release, manifest, sources)
            assert pair.reader.attachments(NAME, release) == (Attachment("text/plain", Blob.of(manifest)),)
        assert pair.reader.release(NAME, Blob.of(manifest)) == manifest
        assert b"".join(pair.reader.blob(NAME, Blob.of(data))) == data
        assert [listing.manifest for listing in pair.reader.versions(NAME)] == [release]

    def test_channels_of_other_packages_and_without_a_release(self, pair: Pair, tmp_path: Path) -> None:
        if not self.CHANNELS:
            pytest.skip("this kind of registry has no channels")
        names = [PackageName(name) for name in ("text", "text/sst-2", "text/sst-2/prod")]
        digests = {}
        for name in names:
            with pytest.raises(NotFoundError) as caught:
                pair.publisher.set_channel(name, PROD, Version("1.0.0"))
            assert caught.value.code == "package-not-found"
            digests[name] = pair.publisher.publish(make(tmp_path, name)).listing.manifest.digest
            pair.publisher.set_channel(name, PROD, Version("1.0.0"))
        assert [pair.reader.channels(name) for name in names] == [{"prod": digests[name]} for name in names]
        with pytest.raises(NotFoundError) as caught:
            pair.publisher.set_channel(NAME, PROD, Version("9.0"))
        assert caught.value.code == "version-not-found"
        pair.publisher.publish(make(tmp_path, version="2.0.0"))
        pair.publisher.yank(NAME, Version("2.0.0"), "trained on test data")
        with pytest.raises(RegistryError, match="trained on test data") as refused:
            pair.publisher.set_channel(NAME, PROD, Version("2.0.0"))
        assert refused.value.code == "channel-yanked"
        assert pair.reader.channel(NAME, PROD) == digests[NAME]

    def test_writers_of_one_channel_at_once(self, pair: Pair, tmp_path: Path) -> None:
        if not self.CHANNELS:
            pytest.skip("this kind of registry has no channels")
        versions = [Version(text) for text in ("1.0.0", "2.0.0", "3.0.0")]
        digests = {pair.publisher.publish(make(tmp_path, version=str(v))).listing.manifest.digest for v in versions}
        jobs = [(channel, v) for v in versions for channel in (PROD, Channel("beta"))]
        with ThreadPoolExecutor(len(jobs) + 1) as pool:
            writers = [pool.submit(pair.publisher.set_channel, NAME, *job) for job in jobs]
            seen = set()
            while not all(writer.done() for writer in writers):
                seen.add(pair.reader.channel(NAME, PROD))
        assert {writer.result() for writer in writers} <= {None, *digests}
        assert seen <= {None, *digests}
        found = pair.reader.channels(NAME)
        assert found is not None
        assert found.keys() == {"prod", "beta"}
        assert set(found.values()) <= digests


class ReadOnlyContract(ReadContract):
    """A registry that takes no writes says so, and points to where it could be done."""

    def test_it_refuses_writes(self, pair: Pair, tmp_path: Path) -> None:
        pair.publisher.publish(make(tmp_path))
        assert pair.reader.packages() is None
        with pytest.raises(RegistryError) as caught:
            pair.reader.publish(make(tmp_path, version="2.0"))
        assert caught.value.code == "registry-read-only"
        with pytest.raises(RegistryError) as caught:
            pair.reader.yank(NAME, Version("1.0.0"), "")
        assert caught.value.code == "registry-read-only"
        with pytest.raises(RegistryError) as caught:
            pair.reader.set_channel(NAME, PROD, Version("1.0.0"))
        assert caught.value.code == "registry-read-only"
        assert pair.reader.channels(NAME) is None
