"""What is particular to OCI registries: other tools, tags, logins, cuts, and what two publishers do to each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob
from adpm.errors import AdpmError, LoginNeededError, NotFoundError, RegistryError, UsageError
from adpm.formats.oci import read_release
from adpm.net.client import Answer, Client
from adpm.registry.distribution import Distribution
from adpm.registry.oci import OciRegistry
from adpm.registry.oci_open import open_oci
from adpm.registry.open import open_registry
from adpm.registry.port import Publication
from adpm.registry.upload import upload
from adpm.store.parallel import in_parallel
from adpm.store.store import Store
from adpm.testing.making import make
from tests.net.clients import HASTY, hasty
from tests.net.serving import Request, serve
from tests.registry.oci import docker_registry, log_in
from tests.registry.servers import need
from tests.registry.test_skopeo import skopeo

NAME = PackageName("text/sst-2")


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_skopeo_takes_what_adpm_published(tmp_path: Path) -> None:
    need("skopeo")
    publication = make(tmp_path)
    with docker_registry(tmp_path / "server") as host:
        listing = open_registry("oci", f"oci://{host}/team", tmp_path).publish(publication).listing
        back = f"oci:{tmp_path / 'back'}:1.0.0"
        skopeo("copy", "--preserve-digests", "--src-tls-verify=false", f"docker://{host}/team/{NAME}:1.0.0", back)
        assert skopeo("inspect", "--raw", back) == publication.manifest
        blobs = tmp_path / "back" / "blobs" / "sha256"
        assert (blobs / listing.manifest.digest.hex).read_bytes() == publication.manifest


def test_adpm_takes_what_skopeo_pushed(tmp_path: Path) -> None:
    """Without adpm's own tags; what else lies there under a version is passed over; a yank sticks."""
    need("skopeo")
    here = open_registry("here", str(tmp_path / "here"), tmp_path)
    publication = make(tmp_path, requires=["lang/en >=1"])
    published = here.publish(publication, init=True).listing
    source = f"oci:{tmp_path / 'here' / 'packages' / NAME}:1.0.0"
    with docker_registry(tmp_path / "server") as host:
        for tag in ("1.0.0", "3.0", "latest"):
            skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", source, f"docker://{host}/x/{NAME}:{tag}")
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        (listing,) = registry.versions(NAME)
        assert (listing.manifest, listing.requires) == (published.manifest, published.requires)
        confirmed = registry.confirmed(listing)
        store = Store(tmp_path / "store")
        for file in confirmed.release.files:
            store.put(registry.blob(NAME, file.blob), file.blob)
        with pytest.raises(RegistryError) as caught:
            registry.publish(make(tmp_path, files={"weights": b"other"}))
        assert caught.value.code == "version-taken"
        assert not registry.publish(publication).created
        assert registry.yank(NAME, Version("1.0.0"), "no good")
        assert [entry.yanked for entry in registry.versions(NAME)] == ["no good"]


def test_a_lost_or_broken_index_is_derived_from_the_tags(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "server") as host:
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        assert isinstance(registry, OciRegistry)
        for version in ("1.0", "1.1"):
            registry.publish(make(tmp_path, version=version))
        registry.yank(NAME, Version("1.0"), "why")
        expected = registry.versions(NAME)
        api = Distribution(f"http://{host}", hasty())
        stale = api.manifest(f"x/{NAME}", "_release-1.0-" + expected[0].manifest.digest.hex[:32])
        assert stale is not None
        api.put_manifest(f"x/{NAME}", "_index", stale, "application/vnd.oci.image.index.v1+json")
        assert registry.versions(NAME) == expected
        release = make(tmp_path, version="1.1").manifest  # no index at all
        api.put_manifest(f"x/{NAME}", "_index", release, "application/vnd.oci.image.manifest.v1+json")
        assert registry.versions(NAME) == expected
        assert registry.rebuild_index(NAME) == expected
        with pytest.raises(NotFoundError) as caught:
            registry.rebuild_index(PackageName("text/other"))
        assert caught.value.code == "package-not-found"


def test_two_that_claim_one_version_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second looks before the first has claimed, and claims after it has looked for the last time."""
    one, other = make(tmp_path), make(tmp_path, files={"weights": b"other"})
    with docker_registry(tmp_path / "server") as host:
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        rival = open_registry("oci", f"oci://{host}/x", tmp_path)
        assert isinstance(rival, OciRegistry)
        commit = OciRegistry._commit

        def late(self: OciRegistry, *arguments: object) -> object:
            if self is rival:
                registry.publish(one)
            return commit(self, *arguments)  # type: ignore[arg-type] # passed through as they come

        monkeypatch.setattr(OciRegistry, "_commit", late)
        with pytest.raises(RegistryError) as caught:
            rival.publish(other)
        assert caught.value.code == "version-taken"
        assert Digest.of(one.manifest) in str(caught.value)
        assert Digest.of(other.manifest) in str(caught.value)
        listings = registry.versions(NAME)
        assert {entry.manifest.digest for entry in listings} == {Digest.of(one.manifest), Digest.of(other.manifest)}
        assert all("both claim this version" in (entry.yanked or "") for entry in listings)


def test_publishers_at_the_same_time(tmp_path: Path) -> None:
    """Of different versions each is listed once; of one version with different content nobody wins unnoticed."""
    with docker_registry(tmp_path / "server") as host:
        outcomes: list[str] = []

        def publish(publication: Publication) -> None:
            try:
                open_registry("oci", f"oci://{host}/x", tmp_path).publish(publication)
                outcomes.append("published")
            except RegistryError as error:
                outcomes.append(error.code)

        different = [make(tmp_path, version=f"1.{i}") for i in range(12)]
        in_parallel(publish, different, threads=12)
        reader = open_registry("oci", f"oci://{host}/x", tmp_path)
        assert [str(listing.version) for listing in reader.versions(NAME)] == [f"1.{i}" for i in range(12)]
        assert outcomes == ["published"] * 12
        outcomes.clear()
        rivals = [make(tmp_path, "text/one", files={"weights": bytes([i])}) for i in range(6)]
        in_parallel(publish, rivals, threads=6)
        assert set(outcomes) <= {"published", "version-taken"}
        listings = reader.versions(PackageName("text/one"))
        assert outcomes.count("published") <= 1
        assert len(listings) == 1 or all("claim this version" in (entry.yanked or "") for entry in listings)


def test_a_version_that_is_no_tag_is_refused(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "server") as host:
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        with pytest.raises(UsageError) as caught:
            registry.publish(make(tmp_path, version="1!2.0"))
        assert caught.value.code == "version-untaggable"


def test_equal_files_are_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    exchange = Client.exchange

    def spy(self: Client, method: str, url: str, **rest: object) -> object:
        sent.append(f"{method} {url}")
        return exchange(self, method, url, **rest)  # type: ignore[arg-type] # passed through as they come

    monkeypatch.setattr(Client, "exchange", spy)
    with docker_registry(tmp_path / "server") as host:
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        registry.publish(make(tmp_path, "a", files={"config.json": b"the same"}))
        sent.clear()
        registry.publish(make(tmp_path, "b", files={"config.json": b"the same"}))
        digest = Digest.of(b"the same").replace(":", "%3A")
        assert [line for line in sent if digest in line] == [
            f"POST http://{host}/v2/x/b/blobs/uploads/?mount={digest}&from=x%2Fa"
        ]
        (listing,) = registry.versions(PackageName("b"))
        assert b"".join(registry.blob(PackageName("b"), Blob(Digest.of(b"the same"), 8))) == b"the same"
        assert listing.yanked is None


@pytest.mark.parametrize("password", [None, "wrong-secret"])
def test_a_login_is_asked_for(tmp_path: Path, password: str | None) -> None:
    with docker_registry(tmp_path / "server", password=True) as host:
        if password is not None:
            log_in(tmp_path / "docker", host, password=password)
        registry = open_registry("oci", f"oci://{host}/x", tmp_path)
        with pytest.raises(LoginNeededError) as caught:
            registry.versions(NAME)
        assert caught.value.code == "login-needed"
        assert f"adpm login {host}" in str(caught.value.hint)
        assert "wrong-secret" not in f"{caught.value} {caught.value.hint} {caught.value.values}"
        with pytest.raises(LoginNeededError):
            registry.publish(make(tmp_path))
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login u password pw\n")
        (tmp_path / "docker" / "config.json").unlink(missing_ok=True)
        again = open_registry("oci", f"oci://{host}/x", tmp_path)
        assert again.publish(make(tmp_path)).created


def test_what_is_no_oci_registry(tmp_path: Path) -> None:
    with serve(lambda request: request.answer(404, b"<html>")) as server:
        registry = open_registry("oci", server.url.replace("http", "oci") + "/x", tmp_path)
        with pytest.raises(NotFoundError) as caught:
            registry.versions(NAME)
    assert caught.value.code == "registry-not-found"


def test_pages_of_tags_are_joined_and_stay_with_the_registry() -> None:
    def answer(request: Request) -> None:
        if "last=" in request.path:
            request.answer(200, b'{"tags": ["2.0"]}')
        else:
            request.answer(200, b'{"tags": ["1.0"]}', Link='</v2/x/tags/list?last=1.0&n=1>; rel="next"')

    with serve(answer) as server:
        assert Distribution(server.url, hasty()).tags("x") == ["1.0", "2.0"]
    with (
        serve(
            lambda request: request.answer(200, b'{"tags": []}', Link='<http://127.0.0.2/v2/x/tags/list>; rel="next"')
        ) as server,
        pytest.raises(AdpmError) as caught,
    ):
        Distribution(server.url, hasty()).tags("x")
    assert caught.value.code == "registry-invalid"


@pytest.mark.parametrize(
    ("stated", "time"),
    [
        ("Sat, 31 Jan 2026 12:00:00 GMT", "2026-01-31T12:00:00Z"),
        ("Sat, 31 Jan 2026 12:00:00 -0000", "2026-01-31T12:00:00Z"),
        ("Sat, 31 Jan 2026 13:00:00 +0100", "2026-01-31T12:00:00Z"),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_registry_may_say_when_it_took_it(tmp_path: Path, stated: str | None, time: str | None) -> None:
    """What others pushed has no record of adpm's."""
    publication = make(tmp_path)
    release = read_release(publication.manifest, "x")

    def answer(request: Request) -> None:
        where = request.path.rpartition("/")[2].partition("?")[0]
        if where == "list":
            request.answer(200, b'{"tags": ["1.0.0"]}')
        elif where == "1.0.0":
            headers = {} if stated is None else {"Last-Modified": stated}
            request.answer(200, publication.manifest, **headers)
        elif where == str(release.card.digest):
            request.answer(200, publication.card)
        else:
            request.answer(200, b"{}")

    with serve(answer) as server:
        host = server.url.partition("//")[2]
        (listing,) = open_registry("oci", f"oci://{host}/x", tmp_path).versions(NAME)
    assert (listing.manifest, listing.published) == (release.manifest, time)


def test_a_refusal_is_told_in_the_registrys_words() -> None:
    body = json.dumps({"errors": [{"code": "MANIFEST_INVALID", "message": "not\x1b[31m today"}]}).encode()
    with serve(lambda request: request.answer(400, body)) as server, pytest.raises(RegistryError) as caught:
        Distribution(server.url, hasty()).tags("x")
    assert "MANIFEST_INVALID not" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("arrived", [0, 7, 10])
def test_an_upload_goes_on_where_it_was_cut(arrived: int) -> None:
    """Of the second piece ``arrived`` bytes come through before the connection breaks."""
    data, stored, cut = bytes(range(30)), bytearray(), [False]

    def answer(request: Request) -> None:
        where = "/up?state=secret"
        if request.method == "POST":
            request.answer(202, Location=where)
        elif request.method == "PATCH":
            begin = int(request.headers["Content-Range"].partition("-")[0])
            assert begin == len(stored)
            if begin == 10 and not cut[0]:
                cut[0] = True
                stored.extend(request.body[:arrived])
                request.connection.close()
                return
            stored.extend(request.body)
            request.answer(202, Location=where)
        elif request.method == "GET":
            request.answer(204, Range=f"0-{max(len(stored) - 1, 0)}", Location=where)
        elif request.method == "PUT":
            request.answer(201)

    with serve(answer) as server:
        api = Distribution(server.url, hasty())
        upload(api, "x", Blob(Digest.of(data), len(data)), [data[:4], data[4:]], piece=10)
        assert bytes(stored) == data
        assert "digest=sha256" in server.requests[-1].path


@pytest.mark.parametrize("method", ["PATCH", "GET", "PUT"])
@pytest.mark.parametrize("piece", [10, 100])
def test_an_upload_that_the_registry_forgot_begins_again(method: str, piece: int) -> None:
    data, stored, forgotten = bytes(range(30)), bytearray(), [False]

    def answer(request: Request) -> None:
        where = f"/up/{request.number}"
        if request.method == "POST":
            stored.clear()
            request.answer(202, Location=where)
        elif request.method == "HEAD":
            request.answer(404)
        elif request.method == method and not forgotten[0] and (method != "PATCH" or stored):
            forgotten[0] = True
            request.answer(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}')
        elif request.method == "PATCH":
            if method == "GET" and not forgotten[0] and stored:
                request.connection.close()
                return
            stored.extend(request.body)
            request.answer(202, Location=where)
        elif request.method == "PUT":
            stored.extend(request.body)
            request.answer(201)

    with serve(answer) as server:
        upload(Distribution(server.url, hasty()), "x", Blob(Digest.of(data), 30), [data[:4], data[4:]], piece=piece)
        begun = [request.path for request in server.requests if request.method == "POST"]
    assert bytes(stored) == data
    assert len(begun) == (2 if forgotten[0] else 1)


@pytest.mark.parametrize("refusals", [1, 9])
def test_a_manifest_that_two_write_at_once_is_sent_again(refusals: int) -> None:
    """docker-registry 2.8 then says of one that its bytes are not those of the digest."""

    def answer(request: Request) -> None:
        refused = request.number < refusals
        body = b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}'
        request.answer(400 if refused else 201, body if refused else b"")

    with serve(answer) as server:
        api = Distribution(server.url, hasty())
        if refusals == 1:
            api.put_manifest("x", "_index", b"{}", "text/plain")
            assert len(server.requests) == 2
        else:
            with pytest.raises(RegistryError, match="refused a request"):
                api.put_manifest("x", "_index", b"{}", "text/plain")
            assert len(server.requests) == HASTY.retries + 1


def test_a_registry_that_forgets_every_upload() -> None:
    def answer(request: Request) -> None:
        request.answer(202 if request.method == "POST" else 404, Location="/up")

    data = b"some data"
    with serve(answer) as server:
        with pytest.raises(NotFoundError) as caught:
            upload(Distribution(server.url, hasty()), "x", Blob(Digest.of(data), 9), [data])
        assert caught.value.code == "url-not-found"
        assert len([request for request in server.requests if request.method == "POST"]) == HASTY.retries + 1


def test_an_index_that_has_not_changed_is_not_moved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = []
    exchange = Distribution.exchange

    def noted(self: Distribution, method: str, url: str, **options: Any) -> Answer:
        answer = exchange(self, method, url, **options)
        if method == "GET" and url.endswith("/_index"):
            statuses.append((answer.status, len(answer.data) > 0))
        return answer

    with docker_registry(tmp_path / "server") as host:
        publisher = open_oci("oci", f"oci://{host}/x", tmp_path, None)
        publisher.publish(make(tmp_path))
        monkeypatch.setattr(Distribution, "exchange", noted)
        for count in (1, 2):
            statuses.clear()
            for _ in range(2):  # each in a new registry object, as in a new process
                reader = open_oci("oci", f"oci://{host}/x", tmp_path, tmp_path / "cache")
                assert len(reader.versions(NAME)) == count
            assert statuses == [(200, True), (304, False)]
            publisher.publish(make(tmp_path, version="2.0"))


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for url in (
        "oci://",
        "oci://host/UPPER",
        "oci://host/x?y",
        "oci://host/x#y",
        "oci://me:secret@host/x",
        "oci://h/x:1",
    ):
        with pytest.raises(UsageError) as caught:
            open_registry("oci", url, tmp_path)
        assert caught.value.code == "url-invalid"
        assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_credential_helper_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nread host\ncase "$host" in\n'
        '127.0.0.1:*) echo \'{"ServerURL":"x","Username":"u","Secret":"pw"}\' ;;\n'
        "*) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "docker").mkdir()
    config = tmp_path / "docker" / "config.json"
    config.write_text('{"credsStore": "test"}')
    with docker_registry(tmp_path / "server", password=True) as host:
        assert open_registry("oci", f"oci://{host}/x", tmp_path).publish(make(tmp_path)).created
        config.write_text('{"credsStore": "../evil"}')
        with pytest.raises(LoginNeededError) as caught:
            open_registry("oci", f"oci://{host}/x", tmp_path).versions(NAME)
        assert caught.value.code == "credential-helper-failed"
        config.write_text(json.dumps({"auths": {host: {"auth": "c2VjcmV0"}}}))
        with pytest.raises(AdpmError) as invalid:
            open_registry("oci", f"oci://{host}/x", tmp_path).versions(NAME)
        assert invalid.value.code == "docker-config-invalid"
        assert "c2VjcmV0" not in str(invalid.value)
