"""WebDAV: who wins races, what is left behind, what is refused, what a hostile server may list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob
from adpm.errors import AdpmError, DocumentError, IntegrityError, RegistryError
from adpm.registry.dav import DavBucket
from adpm.registry.multistatus import Entry, read_listing
from adpm.registry.open import open_registry
from adpm.registry.placed import PlacedRegistry
from adpm.testing.making import make
from tests.net.clients import hasty
from tests.net.serving import Request, cut, head, serve
from tests.registry import servers
from tests.registry.davs import Dav
from tests.registry.stores import leave_behind
from tests.registry.test_objects import publish_in_processes

NAME = PackageName("text/sst-2")


@pytest.fixture(params=["apache", "wsgidav", "nginx_dav"])
def server(request: pytest.FixtureRequest) -> Dav:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Dav)
    return found


def opened(url: str) -> PlacedRegistry:
    registry = open_registry("web", url, Path("/"))
    assert isinstance(registry, PlacedRegistry)
    return registry


def at_once(jobs: list[Callable[[], object]]) -> list[object]:
    """What each job gives, or its error."""

    def run(job: Callable[[], object]) -> object:
        try:
            return job()
        except AdpmError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_publishers_of_other_versions_lose_nothing(server: Dav, tmp_path: Path) -> None:
    url, directory = server.place()
    opened(url).publish(make(tmp_path, "first/of-all"), init=True)
    publications = [make(tmp_path, version=f"1.{i}") for i in range(8)]
    done = at_once([lambda p=p: opened(url).publish(p) for p in publications])  # type: ignore[misc]  # bound now
    assert [error for error in done if isinstance(error, AdpmError)] == []
    assert [str(listing.version) for listing in opened(url).versions(NAME)] == [f"1.{i}" for i in range(8)]
    assert list((directory / ".adpm" / "tmp").iterdir()) == []


def test_publishers_of_one_version(server: Dav, tmp_path: Path) -> None:
    url, _ = server.place()
    opened(url).publish(make(tmp_path, "first/of-all"), init=True)
    rivals = [make(tmp_path, files={"weights": str(i).encode()}) for i in range(8)]
    done = at_once([lambda p=p: opened(url).publish(p) for p in rivals])  # type: ignore[misc]  # bound now
    errors = [error for error in done if isinstance(error, AdpmError)]
    listings = opened(url).versions(NAME)
    assert {error.code for error in errors} == {"version-taken"}
    assert len(errors) >= 7
    if len(listings) > 1:  # the server told several that they were first: all are named, and nobody gets one
        assert all(listing.yanked is not None and listing.yanked.startswith("conflict: ") for listing in listings)
        assert all(listing.manifest.digest in str(listings[0].yanked) for listing in listings)
    else:
        assert len(errors) == 7


@pytest.mark.slow  # eight interpreters
def test_publishers_in_processes(server: Dav, tmp_path: Path) -> None:
    url, _ = server.place()
    registry = opened(url)
    registry.publish(make(tmp_path, "first/of-all"), init=True)
    told = publish_in_processes(url, tmp_path)
    listings = registry.versions(NAME)
    own = {f"{major}.{me}" for major in (0, 2) for me in range(8)}
    assert own <= set(told)
    listed = [str(listing.version) for listing in listings]
    assert all(listed.count(version) == 1 for version in own)
    rivals = [listing for listing in listings if str(listing.version) == "1.0"]
    assert rivals
    assert len(rivals) == 1 or all(str(listing.yanked).startswith("conflict: ") for listing in rivals)
    assert told.count("1.0") <= 1


def test_a_registry_is_made_where_there_is_nothing(server: Dav, tmp_path: Path) -> None:
    url, _ = server.place()
    opened(f"{url}/not there").publish(make(tmp_path), init=True)
    assert opened(f"{url}/not there").packages() == (NAME,)
    with pytest.raises(RegistryError) as caught:
        opened(f"{url}/nor/this").publish(make(tmp_path), init=True)
    assert caught.value.code in {"registry-failed", "registry-read-only"}


def test_what_a_killed_writer_left_is_removed_by_a_later_one(server: Dav, tmp_path: Path) -> None:
    url, directory = server.place()
    opened(url).publish(make(tmp_path), init=True)
    left = leave_behind(directory / ".adpm" / "tmp")
    opened(url).publish(make(tmp_path, version="2.0"))
    assert sorted(path.name for path in (directory / ".adpm" / "tmp").iterdir()) == left


def test_a_large_file(server: Dav, tmp_path: Path) -> None:
    url, directory = server.place()
    data = hashlib.shake_256(b"w").digest(limits.PART_BYTES + 1)
    opened(url).publish(make(tmp_path, files={"weights": data}), init=True)
    assert b"".join(opened(url).blob(NAME, Blob(Digest.of(data), len(data)))) == data
    publication = make(tmp_path, version="2.0", files={"weights": data + b"!"})
    publication.sources[Digest.of(data + b"!")].write_bytes(data + b"?")
    with pytest.raises(IntegrityError):
        opened(url).publish(publication)
    assert list((directory / ".adpm" / "tmp").iterdir()) == []


def test_a_damaged_index_is_derived_anew(server: Dav, tmp_path: Path) -> None:
    url, directory = server.place()
    opened(url).publish(make(tmp_path), init=True)
    index = directory / "packages" / NAME / "index.json"
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(DocumentError):
        opened(url).versions(NAME)
    opened(url).publish(make(tmp_path, version="1.1"))
    assert len(opened(url).versions(NAME)) == 2
    assert len(opened(url).rebuild_index(NAME)) == 2


def test_a_server_that_only_serves_says_why(tmp_path: Path) -> None:
    open_registry("here", str(tmp_path / "r"), tmp_path).publish(make(tmp_path), init=True)
    for start, why in ((servers.nginx, "HTTP 405"), (None, "HTTP 501")):
        with servers.plain(tmp_path / "r") if start is None else start(tmp_path / "r", tmp_path / "n") as url:
            with pytest.raises(RegistryError, match=why) as caught:
                opened(url).publish(make(tmp_path, version="2.0"))
            assert caught.value.code == "registry-read-only"


def test_nginx_without_its_extension_can_not_list(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    methods = "dav_methods PUT DELETE MKCOL COPY MOVE;"
    with servers.nginx(tmp_path / "r", tmp_path / "n", methods) as url, pytest.raises(RegistryError) as caught:
        opened(url).publish(make(tmp_path), init=True)
    assert caught.value.code == "registry-read-only"
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize(
    ("method", "status"),
    [("MKCOL", 507), ("MKCOL", 501), *((method, status) for method in ("PUT", "MOVE") for status in (405, 423, 507))],
)
def test_refusals_are_told(method: str, status: int) -> None:
    with serve(lambda request: request.answer(status if request.method == method else 201)) as served:
        with pytest.raises(RegistryError, match=f"{method} .*HTTP {status}") as caught:
            DavBucket(served.url, hasty()).put_new("a/b", b"x")
        assert caught.value.code == "registry-failed"
        assert any(request.method == "DELETE" for request in served.requests) == (method != "MKCOL")


def test_a_move_whose_answer_is_lost() -> None:
    moved = []

    def answer(request: Request) -> None:
        if request.method == "MOVE":
            moved.append(request.path)
            cut(request)
        elif request.method == "HEAD":
            request.send(head(404 if moved else 200, {"Content-Length": "1"}))
        else:
            request.answer(201)

    with serve(answer) as served:
        assert DavBucket(served.url, hasty()).put_new("a", b"x" * (limits.RECORD_BYTES + 1))
    assert len(moved) == 1


def listing(*hrefs: str) -> bytes:
    inner = "".join(
        f"<x:response><x:href>{href}</x:href><x:propstat><x:prop><x:resourcetype>"
        f"{'<x:collection/>' if href.endswith('/') else ''}</x:resourcetype>"
        "<x:getcontentlength>7</x:getcontentlength></x:prop></x:propstat></x:response>"
        for href in hrefs
    )
    return f'<?xml version="1.0"?><x:multistatus xmlns:x="DAV:">{inner}</x:multistatus>'.encode()


def test_listings() -> None:
    url = "http://example.org/a%20b/c/"
    own, entries = read_listing(
        listing(
            "/a%20b/c/", "/a%20b/c/d", "http://example.org/a%20b/c/e/", "/a%20b/c/../x", "/other/f", "/a%20b/c/g/h"
        ),
        url,
    )
    assert own == Entry("", True, 7)
    assert entries == [Entry("d", False, 7), Entry("e", True, 7)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<a>",
        b'{"not": "xml"}',
        b'<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]><m xmlns="DAV:"><response><href>&a;</href></response></m>',
        listing("/elsewhere/", "/elsewhere/d"),
        b"\xff\xfe<a/>",
    ],
    ids=range(6),
)
def test_listings_that_are_none(data: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        read_listing(data, "http://example.org/c/")
    assert caught.value.code == "registry-invalid"
