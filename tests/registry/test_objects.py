"""Object stores: who wins races, what is noticed of a store that ignores conditions, what errors say."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob
from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError, RegistryError
from adpm.registry.objects import ObjectPlace
from adpm.registry.open import open_registry
from adpm.registry.place import Content
from adpm.registry.placed import PlacedRegistry
from adpm.registry.records import claim_record
from adpm.registry.stores import MemoryBucket
from adpm.testing.making import make
from tests.net.serving import unused_port
from tests.registry import stores

NAME = PackageName("text/sst-2")
_numbers = itertools.count()


@pytest.fixture(params=["seaweed", "rclone"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> stores.S3:
    return chosen(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture
def strict(seaweed: stores.S3, monkeypatch: pytest.MonkeyPatch) -> stores.S3:
    return chosen(seaweed, monkeypatch)


def chosen(server: stores.S3, monkeypatch: pytest.MonkeyPatch) -> stores.S3:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def url() -> str:
    return f"s3://adpm/races/{next(_numbers)}"


def opened(url: str) -> PlacedRegistry:
    registry = open_registry("store", url, Path("/"))
    assert isinstance(registry, PlacedRegistry)
    return registry


def place_of(registry: PlacedRegistry) -> ObjectPlace:
    assert isinstance(registry._place, ObjectPlace)
    return registry._place


_PUBLISH = """
import sys
from pathlib import Path
from adpm.errors import RegistryError
from adpm.registry.open import open_registry
from adpm.testing.making import make
url, work, me = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
work.mkdir()
registry = open_registry("store", url, work)
registry.versions("first/of-all")
print("ready", flush=True)
sys.stdin.readline()
for version in (f"0.{me}", "1.0", f"2.{me}"):
    try:
        registry.publish(make(work, version=version, files={"weights": me.encode()}))
        print(version, flush=True)
    except RegistryError as error:
        assert error.code == "version-taken", error
"""


def publish_in_processes(url: str, work: Path) -> list[str]:
    """What eight publishers at once were told is published: two versions of each one's own, one that all want."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PUBLISH, url, str(work / f"work{me}"), str(me)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(8)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    out = []
    for process in running:
        out += process.communicate()[0].split()
        assert process.returncode == 0
    return out


@pytest.mark.slow  # eight interpreters that import botocore
def test_publishers_at_once_lose_nothing(server: stores.S3, url: str, tmp_path: Path) -> None:
    registry = opened(url)
    registry.publish(make(tmp_path, "first/of-all"), init=True)
    told = publish_in_processes(url, tmp_path)
    listings = registry.versions(NAME)
    listed = Counter(str(listing.version) for listing in listings)
    own = {f"{major}.{me}" for major in (0, 2) for me in range(8)}
    assert own <= set(told)
    assert all(listed[version] == 1 for version in own)
    rivals = [listing for listing in listings if str(listing.version) == "1.0"]
    if place_of(registry)._promises().creates:
        assert (len(rivals), told.count("1.0")) == (1, 1)
    else:  # kept and named, as long as there is more than one
        assert rivals
        assert len(rivals) == 1 or all(
            rival.manifest.digest in str(listing.yanked) for rival in rivals for listing in rivals
        )
        assert told.count("1.0") <= 1 or len(rivals) > 1
    for listing in listings:
        registry.confirmed(listing)
    assert registry.rebuild_index(NAME) is not None
    assert registry.versions(NAME) == listings


def test_what_a_store_promises_is_tried(server: stores.S3, url: str, request: pytest.FixtureRequest) -> None:
    keeps = request.node.callspec.params["server"] == "seaweed"
    for _ in range(2):  # the second finds the object of the first
        promises = place_of(opened(url))._promises()
        assert (promises.creates, promises.swaps) == (keeps, keeps)


def test_writes_on_conditions(strict: stores.S3, url: str) -> None:
    bucket = place_of(opened(url))._bucket
    assert bucket.put_new("some/key", b"1")
    assert not bucket.put_new("some/key", b"2")
    before = bucket.get("some/key", 10)
    assert before.data == b"1"
    assert before.token is not None
    assert bucket.swap("some/key", b"3", before.token)
    assert not bucket.swap("some/key", b"4", before.token)
    assert not bucket.swap("no/such/key", b"4", before.token)
    assert bucket.get("some/key", 10).data == b"3"
    assert bucket.size("no/such/key") is None


def test_a_claim_is_kept_for_a_while(strict: stores.S3, url: str) -> None:
    place = place_of(opened(url))
    mine, other = Digest.of(b"mine"), Digest.of(b"other")
    assert place.claim("a+b/1.0", mine) == mine
    assert place.claim("a+b/1.0", other) == mine
    assert place.claim("a+b/1.0", mine) == mine
    assert place.claim("a+b/1.1", other) == other
    place._bucket.put(".adpm/claims/a+b/1.0", claim_record(mine, 1))  # its writer never came back
    assert place.claim("a+b/1.0", other) == other
    assert place.claim("a+b/1.0", mine) == other


def test_a_large_file_goes_in_parts(server: stores.S3, url: str, tmp_path: Path) -> None:
    data = hashlib.shake_256(b"large").digest(2 * limits.PART_BYTES + 12_345)
    registry = opened(url)
    registry.publish(make(tmp_path, files={"weights": data}), init=True)
    assert b"".join(registry.blob(NAME, Blob(Digest.of(data), len(data)))) == data
    place = place_of(registry)
    path = f"packages/{NAME}/blobs/sha256/{Digest.of(data).hex}"
    assert place.has(path, len(data))
    assert not place.has(path, len(data) - 1)
    assert not place.create(path, [data])


def test_a_large_file_that_breaks_off_leaves_nothing(strict: stores.S3, url: str) -> None:
    place = place_of(opened(url))

    def chunks() -> Iterator[bytes]:
        yield bytes(limits.PART_BYTES + 1)
        raise RegistryError("registry-failed", "broken")

    for path in ("some/large", "some/other"):
        with pytest.raises(RegistryError):
            place.create(path, chunks())
        assert place._bucket.size(path) is None
    uploads = strict.client().list_multipart_uploads(Bucket="adpm", Prefix=url.removeprefix("s3://adpm/"))
    assert not uploads.get("Uploads")


def test_a_download_that_is_cut_goes_on_from_there(
    strict: stores.S3, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, aiohttp = pytest.importorskip("adpm.registry.s3"), pytest.importorskip("aiohttp")
    data = hashlib.shake_256(b"cut").digest(3_000_000)
    bucket = place_of(opened(url))._bucket
    bucket.put("some/blob", data)
    read, left = s3._read, [3]

    async def cut(body: object, limit: int) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise aiohttp.ClientPayloadError
        return bytes(await read(body, limit))

    monkeypatch.setattr(s3, "_read", cut)
    assert b"".join(bucket.stream("some/blob", len(data))) == data
    assert left[0] < 0
    monkeypatch.setattr(limits, "RETRIES", 0)
    left[0] = 2
    with pytest.raises(NetworkError) as caught:
        b"".join(bucket.stream("some/blob", len(data)))
    assert caught.value.code == "network-failed"


def test_an_index_that_has_not_changed_is_not_moved_again(
    strict: stores.S3, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = opened(url)
    publisher.publish(make(tmp_path), init=True)
    moved: list[Content | None] = []
    for version in ("2.0", "3.0"):
        for _ in range(2):  # each in a new registry object, as in a new process
            reader = open_registry("store", url, Path("/"), tmp_path / "cache")
            assert isinstance(reader, PlacedRegistry)
            bucket = place_of(reader)._bucket

            def noted(key: str, limit: int, token: str, ask: Callable[..., Content | None] = bucket.get_changed) -> Any:
                moved.append(ask(key, limit, token))
                return moved[-1]

            monkeypatch.setattr(bucket, "get_changed", noted)
            assert reader.versions(NAME) == publisher.versions(NAME)
        publisher.publish(make(tmp_path, version=version))
    # the first of all was not known before; then unchanged, changed, unchanged
    assert [content is None for content in moved] == [True, False, True]


def test_a_writer_that_stopped_is_waited_for_and_then_listed(
    strict: stores.S3, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = opened(url)
    registry.publish(make(tmp_path), init=True)
    with monkeypatch.context() as changed:
        changed.setattr(place_of(registry), "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            registry.publish(make(tmp_path, version="2.0"))
    registry.publish(make(tmp_path, version="3.0"))
    assert [str(listing.version) for listing in registry.versions(NAME)] == ["1.0.0", "3.0"]
    assert len(list(place_of(registry).list(".adpm/notes/"))) == 1
    monkeypatch.setattr(limits, "CLAIM_SECONDS", -1)
    registry.publish(make(tmp_path, version="4.0"))
    assert [str(listing.version) for listing in registry.versions(NAME)] == ["1.0.0", "2.0", "3.0", "4.0"]
    assert list(place_of(registry).list(".adpm/notes/")) == []


def test_more_than_one_page_of_keys(strict: stores.S3, url: str) -> None:
    client = strict.client()
    prefix = url.removeprefix("s3://adpm/")
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda i: client.put_object(Bucket="adpm", Key=f"{prefix}/many/{i}", Body=b""), range(1001)):
            pass
    client.put_object(Bucket="adpm", Key=f"{prefix}/many-more/1", Body=b"")
    place = place_of(opened(url))
    assert sorted(place.list("many/")) == sorted(str(i) for i in range(1001))
    assert list(place.list("none/")) == []
    assert len(list(place.list(""))) == 1002


def test_an_index_that_is_too_large(strict: stores.S3, url: str) -> None:
    place = place_of(opened(url))
    place.create("some/document", [b"12345"])
    assert place.read("some/document", 5).data == b"12345"
    with pytest.raises(NetworkError) as caught:
        place.read("some/document", 4)
    assert caught.value.code == "response-too-large"


def failure(url: str) -> AdpmError:
    with pytest.raises(AdpmError) as caught:
        opened(url).versions(NAME)
    assert "adpmsecret" not in f"{caught.value} {caught.value.hint}"
    return caught.value


def test_what_refusals_say(strict: stores.S3, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(url).code == "registry-not-found"
    with monkeypatch.context() as changed:
        changed.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        wrong = failure(url)
    assert isinstance(wrong, LoginNeededError)
    with monkeypatch.context() as changed:
        changed.delenv("AWS_ACCESS_KEY_ID")
        changed.delenv("AWS_SECRET_ACCESS_KEY")
        none = failure(url)
    assert isinstance(none, LoginNeededError)
    with monkeypatch.context() as changed:
        changed.setenv("AWS_PROFILE", "nobody")
        assert isinstance(failure(url), LoginNeededError)
    assert all("AWS_PROFILE" in str(error.hint) for error in (wrong, none))


def test_a_bucket_that_is_not_there(moto: stores.S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen(moto, monkeypatch)
    assert failure("s3://nowhere/x").code == "registry-not-found"
    with pytest.raises(NotFoundError, match="no bucket nowhere") as caught:
        opened("s3://nowhere/x").publish(make(tmp_path), init=True)
    assert caught.value.code == "registry-not-found"


def test_a_store_that_is_not_there(strict: stores.S3, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port()}")
    error = failure(url)
    assert isinstance(error, NetworkError)
    assert error.code == "network-failed"


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure"), ("memory", "fsspec", "s3")],
)
def test_a_missing_package_names_the_extra(scheme: str, package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path; from adpm.registry.open import open_registry\n"
        "from adpm.errors import UsageError\n"
        f"try: open_registry('x', '{scheme}://bucket/x', Path())\n"
        "except UsageError as error: print(error.code, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"extra-missing pip install 'adpm[{extra}]'\n"


def test_a_store_that_creates_on_condition_but_never_swaps(tmp_path: Path) -> None:
    class Creating(MemoryBucket):
        can_create = True  # Azure and Google, as fsspec offers them

    registry = PlacedRegistry("store", "memory", ObjectPlace(Creating("adpm", "creating")))
    for number in range(3):
        publication = make(tmp_path, version=f"1.{number}")
        assert registry.publish(publication, init=True).created
    assert len(registry.versions(NAME)) == 3
