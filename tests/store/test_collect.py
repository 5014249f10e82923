"""Collecting removes what nobody needs, and nothing else, whoever is at work meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import StoreError
from adpm.store.store import Collected, Store


def marks(lock: Path) -> Iterable[Digest]:
    """The locks of these tests list digests, one a line."""
    return [Digest.parse(line) for line in lock.read_text().split()]


def project(store: Store, directory: Path, blobs: Iterable[Blob]) -> Path:
    directory.mkdir(exist_ok=True)
    lock = directory / "adapter.lock"
    lock.write_text("\n".join(blob.digest for blob in blobs))
    store.register_project(lock)
    return lock


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_a_lock_names_stays(store: Store, tmp_path: Path) -> None:
    a, b, c, d = (store.put([bytes([i]) * (i + 1)]) for i in range(4))
    project(store, tmp_path / "one", [a, b])
    project(store, tmp_path / "two", [b, c])
    assert store.collect(marks, dry_run=True) == Collected(1, 4, 0, (), 3)
    assert store.has(d)
    assert store.collect(marks) == Collected(1, 4, 0, (), 3)
    assert [store.has(blob) for blob in (a, b, c, d)] == [True, True, True, False]
    assert store.collect(marks) == Collected(0, 0, 0, (), 3)


def test_a_project_whose_lock_is_gone_is_forgotten(store: Store, tmp_path: Path) -> None:
    blob = store.put([b"abc"])
    lock = project(store, tmp_path / "one", [blob])
    lock.unlink()
    assert store.collect(marks, dry_run=True).forgotten == (lock,)
    assert store.collect(marks) == Collected(1, 3, 0, (lock,), 0)
    assert store.collect(marks).forgotten == ()


def test_registering_twice_is_once(store: Store, tmp_path: Path) -> None:
    blob = store.put([b"abc"])
    for _ in range(2):
        project(store, tmp_path / "one", [blob])
    assert len(list((store.root / "projects").iterdir())) == 1


def test_a_lock_that_can_not_be_read_stops_the_collection(store: Store, tmp_path: Path) -> None:
    blob = store.put([b"abc"])
    project(store, tmp_path / "one", [])
    broken = project(store, tmp_path / "two", [])

    def refuse(lock: Path) -> Iterable[Digest]:
        if lock == broken:
            raise StoreError("lock-invalid", "a conflict marker")
        return []

    with pytest.raises(StoreError, match="conflict marker"):
        store.collect(refuse)
    assert store.has(blob)


def test_nothing_is_collected_while_someone_works(store: Store) -> None:
    blob = store.put([b"abc"])
    with store.session():
        with pytest.raises(StoreError) as caught:
            store.collect(marks)
        assert caught.value.code == "store-busy"
        assert store.collect(marks, dry_run=True).objects == 1
    assert store.has(blob)
    assert store.collect(marks).objects == 1


def test_old_leftovers_go_and_young_ones_stay(store: Store) -> None:
    store.put([b"abc"])
    old, young = store.root / "tmp" / "old", store.root / "tmp" / "young"
    aside = store.root / "quarantine" / "x.corrupt"
    aside.parent.mkdir()
    for path in (old, young, aside):
        path.write_bytes(b"12345")
    past = time.time() - limits.TEMPORARY_AGE_SECONDS - 60
    os.utime(old, (past, past))
    os.utime(aside, (past, past))
    assert store.collect(marks, dry_run=True).leftovers == 10
    assert store.collect(marks).leftovers == 10
    assert (old.exists(), young.exists(), aside.exists()) == (False, True, False)


def test_an_empty_store(store: Store) -> None:
    assert store.collect(marks) == Collected(0, 0, 0, (), 0)


_INSTALL = """
import sys
from pathlib import Path
from adpm.store.store import Store
store, mine = Store(Path(sys.argv[1])), Path(sys.argv[2])
mine.mkdir()
for i in range(30):
    with store.session():
        with store.batch() as batch:
            blobs = [batch.put([b"%d" % (i % 7 + k)]) for k in range(3)]
        lock = mine / "adapter.lock"
        lock.write_text("\\n".join(blob.digest for blob in blobs))
        store.register_project(lock)
        assert all(store.has(blob) for blob in blobs)
    for blob in blobs:
        assert bytes(store.map(blob)), "collected under our lock"
"""


def test_installs_and_collections_at_once(store: Store, tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _INSTALL, str(store.root), str(tmp_path / f"p{n}")]) for n in range(4)
    ]
    collected = 0
    while any(process.poll() is None for process in running):
        try:
            store.collect(marks)
            collected += 1
        except StoreError as error:
            assert error.code == "store-busy"  # noqa: PT017 - both outcomes are right
    assert [process.wait() for process in running] == [0] * 4
    assert collected
