"""Linking out: whole or as before, whichever way the file system allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import NotFoundError, StoreError
from adpm.store import link as link_module
from adpm.store.store import Store

WAYS = dict(link_module._WAYS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def blob(store: Store) -> Blob:
    return store.put([b"abc"])


def only(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_WAYS", ((way, WAYS[way]),))


@pytest.mark.parametrize("way", ["hard link", "symbolic link", "copy"])
@pytest.mark.parametrize("before", [None, b"something else", b"abc"])
def test_each_way(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, before: bytes | None
) -> None:
    only(way, monkeypatch)
    blob = store.put([b"abc"])
    target = tmp_path / "out" / "weights" / "a.bin"
    if before is not None:
        target.parent.mkdir(parents=True)
        target.write_bytes(before)
    for _ in range(2):  # linking what is linked changes nothing
        assert store.link_out(blob, target) == way
        assert target.read_bytes() == b"abc"
        assert list(target.parent.iterdir()) == [target]


def test_a_copy_belongs_to_the_user(store: Store, blob: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only("copy", monkeypatch)
    store.link_out(blob, tmp_path / "a")
    (tmp_path / "a").write_bytes(b"mine")
    assert bytes(store.map(blob)) == b"abc"


def test_what_this_file_system_can_is_found_and_remembered(store: Store, blob: Blob, tmp_path: Path) -> None:
    ways = {store.link_out(blob, tmp_path / f"out{i}") for i in range(3)}
    assert len(ways) == 1
    assert ways <= {"reflink", "hard link"}


def test_another_file_system(store: Store, blob: Blob) -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108 - another file system is what we need
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == store.path(blob.digest).stat().st_dev:
        pytest.skip("no second file system here")
    directory = shared_memory / f"adpm-test-{blob.digest.short}-{id(store)}"
    try:
        assert store.link_out(blob, directory / "a") == "symbolic link"
        assert (directory / "a").read_bytes() == b"abc"
    finally:
        (directory / "a").unlink()
        directory.rmdir()


def test_an_object_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        store.link_out(Blob(Digest.of(b"other"), 5), tmp_path / "a")
    assert caught.value.code == "object-missing"
    assert not (tmp_path / "a").exists()


def test_a_target_that_can_not_be(store: Store, blob: Blob, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        store.link_out(blob, tmp_path / "file" / "a")
    assert caught.value.code == "link-failed"
    (tmp_path / "directory" / "a").mkdir(parents=True)
    with pytest.raises(StoreError):
        store.link_out(blob, tmp_path / "directory" / "a")
    assert list((tmp_path / "directory").iterdir()) == [tmp_path / "directory" / "a"]
