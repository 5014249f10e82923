"""The store keeps every byte once, hands out only what it hashed, and survives its neighbours."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import IntegrityError, NotFoundError, StoreError
from adpm.store import link
from adpm.store.store import Store


def blob_of(data: bytes) -> Blob:
    return Blob(Digest.of(data), len(data))


def no_reflink(source: str, target: str) -> None:
    raise OSError(errno.EOPNOTSUPP, "not here", source, None, target)


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()] if directory.exists() else []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_put_is_mapped_again(store: Store) -> None:
    blob = store.put([b"abc", b"", b"def"])
    assert blob == blob_of(b"abcdef")
    assert store.has(blob)
    assert bytes(store.map(blob)) == b"abcdef"


@given(chunks=st.lists(st.binary(max_size=40), max_size=10))
def test_the_chunks_do_not_matter(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    data = b"".join(chunks)
    assert store.put(chunks) == store.put([data], blob_of(data)) == blob_of(data)
    assert bytes(store.map(blob_of(data))) == data


def test_an_object_is_a_read_only_file_named_by_its_digest(store: Store) -> None:
    blob = store.put([b"abc"])
    hex_ = blob.digest.hex
    path = store.root / "objects" / "sha256" / hex_[:2] / hex_[2:]
    assert path == store.path(blob.digest)
    assert path.read_bytes() == b"abc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert files_in(store.root / "tmp") == []


@pytest.mark.parametrize("arriving", [b"abcd", b"ab", b"abd", b""])
def test_other_bytes_than_expected_are_refused(store: Store, arriving: bytes) -> None:
    expected = blob_of(b"abc")
    with pytest.raises(IntegrityError) as caught:
        store.put([arriving], expected)
    assert caught.value.code == "digest-mismatch"
    assert expected.digest in str(caught.value)
    assert not store.has(expected)
    assert files_in(store.root / "tmp") == files_in(store.root / "objects") == []


def test_a_stream_that_never_ends_is_cut_at_the_first_byte_too_many(store: Store) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1000

    with pytest.raises(IntegrityError):
        store.put(endless(), blob_of(b"x" * 2500))
    assert taken == 3


def test_a_stream_that_breaks_leaves_nothing(store: Store) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(broken())
    assert files_in(store.root / "tmp") == files_in(store.root / "objects") == []


def test_what_is_there_is_not_fetched(store: Store) -> None:
    blob = store.put([b"abc"])

    untouched = iter([b"abc"])
    assert store.put(untouched, blob) == blob
    assert next(untouched) == b"abc"


def test_a_missing_object_is_named(store: Store) -> None:
    missing = blob_of(b"abc")
    assert not store.has(missing)
    with pytest.raises(NotFoundError, match=missing.digest) as caught:
        store.map(missing)
    assert caught.value.code == "object-missing"


@pytest.mark.parametrize("content", [b"abd", b"ab", b"abcd", b""])
def test_a_damaged_object_is_set_aside_and_can_be_fetched_again(store: Store, content: bytes) -> None:
    blob = store.put([b"abc"])
    damage(store.path(blob.digest), content)
    with pytest.raises(IntegrityError) as caught:
        store.map(blob)
    assert caught.value.code == "object-corrupt"
    assert [path.read_bytes() for path in files_in(store.root / "quarantine")] == [content]
    assert not store.has(blob)
    store.put([b"abc"], blob)
    assert bytes(store.map(blob)) == b"abc"


def test_a_truncated_object_does_not_keep_its_name_from_the_right_one(store: Store) -> None:
    blob = store.put([b"abc"])
    damage(store.path(blob.digest), b"a")
    assert not store.has(blob)
    store.put([b"abc"], blob)
    assert bytes(store.map(blob)) == b"abc"
    assert len(files_in(store.root / "quarantine")) == 1


def test_a_view_is_private_and_outlives_its_object(store: Store) -> None:
    blob = store.put([b"abc"])
    view = store.map(blob)
    view[0] = ord("x")
    assert bytes(store.map(blob)) == b"abc"
    store.path(blob.digest).unlink()
    assert bytes(view) == b"xbc"


FEW = """
import resource, sys
from pathlib import Path
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.store.store import Store
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
data = Path(sys.argv[2]).read_bytes()
blob = Blob(Digest.of(data), len(data))
views = [Store(Path(sys.argv[1])).map(blob) for _ in range(200)]
assert all(view == data for view in views)
views[-1][0] = views[0][0] = 0
assert views[1] == data
Path(sys.argv[2]).open("rb").close()  # there is room for others
"""


def test_more_views_than_the_process_may_open_files(store: Store, tmp_path: Path) -> None:
    data = b"weights" * 1000
    store.put([data])
    (tmp_path / "data").write_bytes(data)
    subprocess.run([sys.executable, "-c", FEW, str(store.root), str(tmp_path / "data")], check=True)


def test_a_batch_is_visible_when_it_ends(store: Store) -> None:
    with store.batch() as batch:
        blobs = [batch.put([b"%d" % i]) for i in range(5)]
        assert all(batch.has(blob) for blob in blobs)
        assert not any(store.has(blob) for blob in blobs)
        assert batch.put([b"0"]) == blobs[0]
    assert [bytes(store.map(blob)) for blob in blobs] == [b"%d" % i for i in range(5)]
    assert files_in(store.root / "tmp") == []


def test_a_batch_that_fails_keeps_what_is_whole(store: Store) -> None:
    def put_both() -> None:
        with store.batch() as batch:
            batch.put([b"whole"])
            batch.put([b"other"], blob_of(b"broken"))

    with pytest.raises(IntegrityError):
        put_both()
    assert bytes(store.map(blob_of(b"whole"))) == b"whole"
    assert files_in(store.root / "tmp") == []


def test_a_full_batch_is_placed_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_FILES", 3)
    with store.batch() as batch:
        blobs = [batch.put([b"%d" % i]) for i in range(4)]
        assert [store.has(blob) for blob in blobs] == [True, True, True, False]


def test_small_objects_do_not_pile_up_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_HELD_BYTES", 30)
    contents = [b"%010d" % i for i in range(4)]
    with store.batch() as batch:
        blobs = [batch.put([data], blob_of(data)) for data in contents]
        assert [store.has(blob) for blob in blobs] == [True, True, True, False]


def test_a_file_that_is_shared_is_not_copied(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_reflink", no_reflink)
    there, damaged = tmp_path / "there", tmp_path / "damaged"
    there.write_bytes(b"abc" * 1000)
    damaged.write_bytes(b"abd" * 1000)
    (tmp_path / "link").symlink_to(there)
    blob = blob_of(b"abc" * 1000)
    with store.batch() as batch:
        assert not batch.share(damaged, blob)
        assert batch.share(tmp_path / "link", blob)
        assert batch.share(damaged, blob)  # there already
    assert bytes(store.map(blob)) == b"abc" * 1000
    path = Path(store.path(blob.digest))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert there.samefile(path)
    there.unlink()
    assert bytes(store.map(blob)) == b"abc" * 1000
    assert not list((store.root / "tmp").iterdir())


def test_a_file_of_another_file_system_is_not_shared(store: Store) -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108 - another file system is what we need
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == store.root.parent.stat().st_dev:
        pytest.skip("no second file system here")
    there = shared_memory / f"adpm-test-{id(store)}"
    there.write_bytes(b"abc")
    try:
        with store.batch() as batch:
            assert not batch.share(there, blob_of(b"abc"))
    finally:
        there.unlink()
    assert not list((store.root / "tmp").iterdir())


def test_threads_share_a_batch(store: Store) -> None:
    contents = [b"%d" % (i % 100) for i in range(400)]
    with store.batch() as batch, ThreadPoolExecutor(8) as pool:
        blobs = list(pool.map(lambda data: batch.put([data], blob_of(data)), contents))
    assert [bytes(store.map(blob)) for blob in blobs] == contents
    assert len(files_in(store.root / "objects")) == 100
    assert files_in(store.root / "tmp") == []


_PUTS = """
import sys
from pathlib import Path
from adpm.store.store import Store
store = Store(Path(sys.argv[1]))
for i in range(40):
    with store.batch() as batch:
        batch.put([b"shared %d" % i] * 50)
        batch.put([sys.argv[2].encode(), b" %d" % i])
"""


def test_many_processes_put_at_once(store: Store) -> None:
    running = [subprocess.Popen([sys.executable, "-c", _PUTS, str(store.root), str(n)]) for n in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    checked = store.verify_all(workers=2)
    assert (checked.objects, checked.corrupt) == (40 + 6 * 40, ())
    assert files_in(store.root / "tmp") == []


_FULL_DISK = """
import resource, sys
from pathlib import Path
from adpm.errors import StoreError
from adpm.store.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Store(Path(sys.argv[1])).put([b"x" * 60_000, b"y" * 60_000])
except StoreError as error:
    sys.exit(f"{error.code}: {error}")
"""


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_nothing(store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(store.root)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("store-failed: could not write to the store")
    assert files_in(store.root / "tmp") == files_in(store.root / "objects") == []


def test_a_store_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "file" / "store").put([b"abc"])
    assert caught.value.code == "store-failed"


def test_verify_finds_every_damaged_object(store: Store) -> None:
    blobs = [store.put([b"%d" % i]) for i in range(20)]
    damage(store.path(blobs[3].digest), b"x")
    damage(store.path(blobs[7].digest), b"xyz")
    checked = store.verify_all(workers=3)
    assert checked.objects == 20
    assert checked.corrupt == tuple(sorted([blobs[3].digest, blobs[7].digest]))
    assert not store.has(blobs[3])
    assert store.verify_all(workers=1).corrupt == ()
    assert len(files_in(store.root / "quarantine")) == 2


def test_where_the_default_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADPM_HOME", str(tmp_path / "home"))
    assert Store.default().root == tmp_path / "home"
    monkeypatch.setenv("ADPM_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if os.uname().sysname == "Linux":
        assert Store.default().root == tmp_path / "cache" / "adpm"
