"""Partial downloads: what has arrived stays, what is wrong never becomes an object, writers don't meet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.store.partial import Partial
from adpm.store.store import Store

PIECE = 1000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(limits, "MARK_BYTES", 300)


def data_of(size: int) -> bytes:
    return hashlib.shake_256(b"partial").digest(size)


def blob_of(data: bytes) -> Blob:
    return Blob(Digest.of(data), len(data))


def opened(directory: Path, blob: Blob) -> Partial:
    partial = Partial.open(directory, blob)
    assert partial is not None
    return partial


def write(partial: Partial, start: int, data: bytes, chunk: int = 100) -> None:
    chunks = [data[i : i + chunk] for i in range(0, len(data), chunk)]
    assert list(partial.write(start, chunks)) == [len(piece) for piece in chunks]


@given(
    size=st.integers(1, 5 * PIECE),
    order=st.permutations(range(5)),
    cuts=st.lists(st.integers(0, PIECE), min_size=5, max_size=5),
    chunk=st.integers(1, 700),
)
def test_what_has_arrived_stays_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, size: int, order: list[int], cuts: list[int], chunk: int
) -> None:
    directory, data = tmp_path_factory.mktemp("staging"), data_of(size)
    blob = blob_of(data)
    first = opened(directory, blob)
    pieces = list(first.missing())
    assert pieces == [(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]
    arrived = 0
    for number in order:
        if number < len(pieces):
            start, stop = pieces[number]
            part = data[start : min(stop, start + cuts[number])]
            write(first, start, part, chunk)
            arrived += len(part)
    first.close()
    second = opened(directory, blob)
    assert second.resumed == arrived
    for start, stop in list(second.missing()):
        write(second, start, data[start:stop], chunk)
    assert list(second.missing()) == []
    assert second.digest() == blob.digest.hex
    second.finish()
    assert second.path.read_bytes() == data
    second.discard()


def test_a_stream_may_go_on_beyond_its_piece(tmp_path: Path) -> None:
    data = data_of(2500)
    partial = opened(tmp_path, blob_of(data))
    write(partial, 0, data)
    assert list(partial.missing()) == []
    partial.close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    blob = blob_of(data_of(1500))
    first = opened(tmp_path, blob)
    assert Partial.open(tmp_path, blob) is None
    write(first, 0, data_of(1500)[:400])
    first.close()
    second = opened(tmp_path, blob)
    assert second.resumed == 400
    second.discard()
    assert list(tmp_path.iterdir()) == []
    third = opened(tmp_path, blob)
    assert third.resumed == 0
    third.close()


@pytest.mark.parametrize(
    "journal", [b"0 99999\n", b"500 400\n", b"what is this\n", b"0 30", b"\xff" * 50, b"0 " + b"9" * 30 + b"\n"]
)
def test_a_broken_journal_counts_for_nothing(tmp_path: Path, journal: bytes) -> None:
    data = data_of(1500)
    blob = blob_of(data)
    (tmp_path / blob.digest.hex).write_bytes(bytes(1500) + journal)
    partial = opened(tmp_path, blob)
    assert partial.resumed == 0
    write(partial, 0, data)
    assert partial.digest() == blob.digest.hex
    partial.close()


def test_a_journal_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    """As after a power cut that kept the journal and lost the bytes."""
    store, data = Store(tmp_path), data_of(1500)
    blob = blob_of(data)
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / blob.digest.hex).write_bytes(bytes(1500) + b"0 1500\n")
    with store.batch() as batch:
        partial = batch.partial(blob)
        assert partial is not None
        assert list(partial.missing()) == []
        assert not batch.complete(partial)
        assert not partial.path.exists()
    assert not store.has(blob)


_FINISHED = """
import os, sys
from pathlib import Path
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.store.store import Store
os.setuid(int(sys.argv[4]))
data = Path(sys.argv[2]).read_bytes()
with Store(Path(sys.argv[1])).batch() as batch:
    partial = batch.partial(Blob(Digest.of(data), len(data)))
    if sys.argv[3] == "first":
        list(batch.write(partial, 0, [data]))
    print(partial.resumed, batch.complete(partial), flush=True)
    if sys.argv[3] == "first":
        os._exit(0)
"""


@pytest.mark.parametrize("user", [os.getuid(), 65534], ids=["myself", "nobody"])
@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_whole_when_its_batch_died(damaged: bool, user: int) -> None:
    """Also for a user who can't write to a file of mode 0444, as root can."""
    if os.getuid() not in {0, user}:
        pytest.skip("only root can become another user")
    data = data_of(2_500_000)
    blob = blob_of(data)
    with TemporaryDirectory() as directory:  # pytest's own are closed to others
        work = Path(directory)
        work.chmod(0o777)
        (work / "data").write_bytes(data)

        def run(which: str) -> str:
            command = [sys.executable, "-c", _FINISHED, str(work / "store"), str(work / "data"), which]
            return subprocess.run([*command, str(user)], check=True, capture_output=True, text=True).stdout

        assert run("first") == "0 True\n"
        staged = work / "store" / "staging" / blob.digest.hex
        assert oct(staged.stat().st_mode & 0o777) == oct(0o444)
        if damaged:
            staged.chmod(0o600)
            staged.write_bytes(data[:-1] + b"!")
            staged.chmod(0o444)
        assert run("second") == f"2500000 {not damaged}\n"
        store = Store(work / "store")
        assert store.has(blob) is not damaged
        if not damaged:
            assert bytes(store.map(blob)) == data
        assert list(staged.parent.iterdir()) == []


_FOREIGN = """
import os, sys
from pathlib import Path
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.store.store import Store
os.setuid(65534)
data = Path(sys.argv[2]).read_bytes()
blob = Blob(Digest.of(data), len(data))
with Store(Path(sys.argv[1])).batch() as batch:
    print(batch.partial(blob))
    batch.put([data], blob)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "short"), [(0o600, 0), (0o644, 0), (0o444, 1)])
def test_what_another_user_has_begun_is_fetched_elsewhere(mode: int, short: int) -> None:
    data = data_of(2_500_000)
    with TemporaryDirectory() as directory:
        work = Path(directory)
        staged = work / "store" / "staging" / blob_of(data).digest.hex
        staged.parent.mkdir(parents=True)
        for path in (work, work / "store", staged.parent):
            path.chmod(0o777)
        (work / "data").write_bytes(data)
        staged.write_bytes(data[: len(data) - short])
        staged.chmod(mode)
        command = [sys.executable, "-c", _FOREIGN, str(work / "store"), str(work / "data")]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "None\n"
        assert bytes(Store(work / "store").map(blob_of(data))) == data


def test_a_journal_that_is_full_only_stops_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BYTES", 20)
    data = data_of(3000)
    partial = opened(tmp_path, blob_of(data))
    write(partial, 0, data)
    assert partial.digest() == blob_of(data).digest.hex
    partial.close()
    assert os.stat(tmp_path / blob_of(data).digest.hex).st_size <= 3020


def test_a_partial_download_becomes_an_object(tmp_path: Path) -> None:
    store, data = Store(tmp_path), data_of(2500)
    blob = blob_of(data)
    with store.batch() as batch:
        partial = batch.partial(blob)
        assert partial is not None
        assert sum(batch.write(partial, 0, [data])) == 2500
        assert batch.complete(partial)
        assert batch.has(blob)
        assert batch.partial(blob) is None  # as long as the batch lasts
    assert bytes(store.map(blob)) == data
    assert oct(store.path(blob.digest).stat().st_mode & 0o777) == oct(0o444)
    assert list((tmp_path / "staging").iterdir()) == []


def test_what_a_dead_writer_has_linked_is_never_written_to(tmp_path: Path) -> None:
    """It died between giving the file the object's name and taking its old one away."""
    data = data_of(1500)
    blob = blob_of(data)
    staged, linked = tmp_path / "staging" / blob.digest.hex, tmp_path / "linked"
    staged.parent.mkdir()
    staged.write_bytes(data)
    os.link(staged, linked)
    partial = opened(staged.parent, blob)
    write(partial, 0, bytes(1000))
    assert linked.read_bytes() == data
    partial.close()
