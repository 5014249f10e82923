"""A web registry that is broken or hostile: one clear error, or the right bytes; never wrong ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import AdpmError, IntegrityError
from adpm.formats.oci import read_release
from adpm.registry.cache import DocumentCache
from adpm.registry.directory import open_directory
from adpm.registry.placed import PlacedRegistry
from adpm.registry.web import WebPlace
from adpm.store.store import Store
from adpm.testing.making import make
from tests.net.clients import hasty
from tests.net.serving import Request, Served, cut, head, serve

NAME = PackageName("text/sst-2")
WEIGHTS = bytes(range(256)) * 400


class Site:
    """A directory registry behind a server that follows it, but where a test says otherwise."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "registry"
        self.registry = open_directory("here", str(self.root), directory, None)
        self.publication = make(directory, files={"weights": WEIGHTS}, requires=["lang/en"])
        self.listing = self.registry.publish(self.publication, init=True).listing
        self.release = read_release(self.publication.manifest, "test")
        self.blob = self.release.files[0].blob
        self.store = Store(directory / "store")
        self.cache = directory / "cache"

    def file(self, request: Request) -> bytes | None:
        path = self.root / request.path.lstrip("/")
        return path.read_bytes() if path.is_file() else None

    def answer(self, request: Request) -> None:
        data = self.file(request)
        if data is None:
            request.answer(404)
        else:
            request.answer(200, data)

    @contextmanager
    def served(self, **instead: Callable[[Request], object]) -> Iterator[tuple[PlacedRegistry, Served]]:
        """``instead`` answers for paths that contain its name (``index``, ``weights``, ``card``, ``release``)."""
        marks = {
            "index": "index.json",
            "weights": self.blob.digest.hex,
            "card": self.release.card.digest.hex,
            "release": f"blobs/sha256/{self.release.manifest.digest.hex}",
            "marker": "adpm-registry.json",
        }

        def answer(request: Request) -> None:
            for name, other in instead.items():
                if marks[name] in request.path:
                    other(request)
                    return
            self.answer(request)

        with serve(answer) as served:
            place = WebPlace(served.url, hasty(), DocumentCache(self.cache))
            yield PlacedRegistry("web", served.url, place), served

    def fetch(self, **instead: Callable[[Request], object]) -> None:
        """What an install does with one file."""
        with self.served(**instead) as (registry, _):
            self.store.put(registry.blob(NAME, self.blob), self.blob)
        assert bytes(self.store.map(self.blob)) == WEIGHTS

    def refused(self, **instead: Callable[[Request], object]) -> str:
        with pytest.raises(AdpmError) as caught:
            self.fetch(**instead)
        assert not self.store.has(self.blob)
        assert list((self.store.root / "tmp").glob("*")) == []
        return caught.value.code

    def confirm(self, **instead: Callable[[Request], object]) -> Listing:
        """What a lock does with a package."""
        with self.served(**instead) as (registry, _):
            (listing,) = registry.versions(NAME)
            registry.confirmed(listing)
            return listing


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_healthy_site(site: Site) -> None:
    site.fetch()
    assert site.confirm() == site.listing


@pytest.mark.parametrize(
    "body", [WEIGHTS[:-1] + b"x", WEIGHTS[:-1], WEIGHTS + b"x", b"", b"<html>captive portal</html>"]
)
def test_wrong_bytes(site: Site, body: bytes) -> None:
    assert site.refused(weights=lambda request: request.answer(200, body)) == "digest-mismatch"
    site.fetch()


def test_a_stream_without_end(site: Site) -> None:
    def answer(request: Request) -> None:
        request.send(head(200, {"Transfer-Encoding": "chunked"}))
        while not request.stopping.is_set():
            request.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    assert site.refused(weights=answer) == "digest-mismatch"


def test_a_cut_and_trouble_on_the_way(site: Site) -> None:
    tries = iter(range(100))

    def answer(request: Request) -> None:
        match next(tries):
            case 0:
                request.answer(503)
            case 1:
                request.send(head(200, {"Content-Length": str(len(WEIGHTS))}) + WEIGHTS[:70_000])
                cut(request)
            case _:
                site.answer(request)

    site.fetch(weights=answer)


def test_a_file_that_changes_while_it_is_read(site: Site) -> None:
    tries = iter(range(100))

    def answer(request: Request) -> None:
        if next(tries) == 0:
            request.send(head(200, {"Content-Length": str(len(WEIGHTS)), "ETag": '"old"'}) + bytes(70_000))
            cut(request)
        else:
            request.answer(200, WEIGHTS, ETag='"new"')

    assert site.refused(weights=answer) == "digest-mismatch"
    site.fetch()


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "login-needed"), (403, "access-denied"), (404, "blob-missing"), (410, "blob-missing"), (500, "http-status")],
)
def test_refusals(site: Site, status: int, code: str) -> None:
    assert site.refused(weights=lambda request: request.answer(status)) == code


def of_index(site: Site, change: Callable[[bytes], bytes]) -> Callable[[Request], object]:
    return lambda request: request.answer(200, change(site.file(request) or b""))


def test_an_index_that_lies(site: Site) -> None:
    digest, size = site.listing.manifest.digest, site.listing.manifest.size
    lies: dict[str, Callable[[bytes], bytes]] = {
        "a requirement too many": lambda data: data.replace(b"lang/en", b"lang/xx"),
        "none": lambda data: data.replace(b'"dev.adpm.requires":"{\\"lang/en\\":\\"\\"}",', b""),
        "another base": lambda data: data.replace(b"google-bert", b"facebook-x"),
        "another shape": lambda data: data.replace(b"768", b"512"),
        "another version": lambda data: data.replace(b"1.0.0", b"9.0.0"),
        "a larger size": lambda data: data.replace(b'"size":%d' % size, b'"size":%d' % (size + 1)),
        "a smaller size": lambda data: data.replace(b'"size":%d' % size, b'"size":%d' % (size - 1)),
        "a blob that is no release": lambda data: data.replace(
            digest.hex.encode(), site.blob.digest.hex.encode()
        ).replace(b'"size":%d' % size, b'"size":%d' % site.blob.size),
    }
    truth = (site.root / "packages" / NAME / "index.json").read_bytes()
    for what, change in lies.items():
        assert change(truth) != truth, what
        with pytest.raises(AdpmError) as caught:
            site.confirm(index=of_index(site, change))
        assert caught.value.code in {"index-mismatch", "digest-mismatch", "release-invalid"}, what
        assert isinstance(caught.value, IntegrityError) or caught.value.code == "release-invalid", what


def test_another_packages_release_is_refused(site: Site, tmp_path: Path) -> None:
    """An index that lists a true release of another package, with blobs to match."""
    other = PackageName("text/evil")
    site.registry.publish(make(tmp_path, other, requires=["lang/en"]))
    evil = site.root / "packages" / other

    def answer(request: Request) -> None:
        name = request.path.rpartition("/")[2]
        request.answer(200, (evil / "index.json" if "index" in name else evil / "blobs" / "sha256" / name).read_bytes())

    with serve(lambda request: answer(request) if NAME in request.path else site.answer(request)) as served:
        registry = PlacedRegistry("web", served.url, WebPlace(served.url, hasty()))
        (listing,) = registry.versions(NAME)
        with pytest.raises(IntegrityError, match="name: the index says text/sst-2, the card says text/evil") as caught:
            registry.confirmed(listing)
    assert caught.value.code == "index-mismatch"


@pytest.mark.parametrize("part", ["card", "release"])
def test_wrong_documents(site: Site, part: str) -> None:
    for body in (b"", b"{}", site.publication.card + b" ", bytes(10_000)):
        with pytest.raises(IntegrityError) as caught:
            site.confirm(**{part: lambda request, body=body: request.answer(200, body)})
        assert caught.value.code == "digest-mismatch"


@pytest.mark.parametrize("part", ["index", "marker"])
def test_a_bomb(site: Site, part: str) -> None:
    bomb = gzip.compress(bytes(200 << 20))
    with pytest.raises(AdpmError) as caught:
        site.confirm(**{part: lambda request: request.answer(200, bomb, Content_Encoding="gzip")})
    assert caught.value.code == "response-too-large"


def test_an_index_is_sent_once_and_kept(site: Site, tmp_path: Path) -> None:
    index, conditional = site.root / "packages" / NAME / "index.json", []

    def answer(request: Request) -> None:
        etag = f'"{index.stat().st_mtime_ns}"'
        conditional.append(request.headers["If-None-Match"] is not None)
        if request.headers["If-None-Match"] == etag:
            request.send(head(304, {"ETag": etag}))
        else:
            request.answer(200, index.read_bytes(), ETag=etag)

    with site.served(index=answer) as (registry, _):
        assert registry.versions(NAME) == registry.versions(NAME) == (site.listing,)
        assert conditional == [False, True]
        site.registry.publish(make(tmp_path, version="2.0"))
        assert len(registry.versions(NAME)) == 2


@pytest.mark.parametrize("damage", [b"", b"x", b'sha256:0\n"1"\n{}'])
def test_a_damaged_cache_is_no_cache(site: Site, damage: bytes) -> None:
    with site.served(index=lambda request: request.answer(200, site.file(request) or b"", ETag='"1"')) as (registry, _):
        registry.versions(NAME)
        (kept,) = site.cache.iterdir()
        kept.write_bytes(damage)
        assert registry.versions(NAME) == (site.listing,)
