"""Downloads that end with their process, servers that know no ranges, and what a user sees of them meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adpm import limits
from adpm.core.names import Digest
from tests.cli.conftest import Workplace
from tests.registry.servers import nginx, plain

SIZE = 24_000_000
INSTALL = [sys.executable, "-m", "adpm", "install", "--locked"]


def published(work: Workplace, size: int) -> Digest:
    """A package with one large file, in the registry that the project will ask."""
    data = hashlib.shake_256(b"large").digest(size)
    directory = work.package("text/large", "1.0")
    (directory / "README.md").write_bytes(data)
    work.adpm("publish", directory, "--registry", "../registry", "--init")
    return Digest.of(data)


def locked(work: Workplace, url: str) -> None:
    work.adpm("init", "--base", work.base)
    work.adpm("registry", "add", "web", url)
    manifest = work.read("adapter.yaml")
    (work.project / "adapter.yaml").write_text(manifest.replace("adapters: {}\n", "") + "adapters: {x: text/large}\n")
    work.adpm("lock")
    os.environ["ADPM_HOME"] = str(work.root / "fresh")  # the one that published has all; monkeypatch restores it


@contextmanager
def slow(work: Workplace, rate: str) -> Iterator[tuple[str, Path]]:
    """nginx over the registry, ``rate`` a connection; the log of what it sent."""
    log = work.root / "sent.log"
    with nginx(work.root / "registry", work.root / "nginx", f"limit_rate {rate}; access_log {log} sent;") as url:
        yield url, log


def sent(log: Path, digest: Digest) -> list[int]:
    """The bytes of each answer about a blob."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return [int(size) for _, size, path in lines if path.endswith(digest.hex)]


def journal(home: Path, digest: Digest, size: int) -> int:
    """How many bytes the file of a download says have arrived."""
    try:
        with (home / "staging" / digest.hex).open("rb") as file:
            file.seek(size)
            data = file.read()
    except FileNotFoundError:
        return 0
    return sum(int(stop) - int(start) for start, stop in re.findall(rb"(\d+) (\d+)\n", data))


def kill_in_the_middle(work: Workplace, digest: Digest, size: int) -> int:
    """Install, and kill that when a third has arrived; how much had."""
    home = work.root / "fresh"
    with subprocess.Popen(INSTALL, cwd=work.project, stderr=subprocess.PIPE) as running:
        while journal(home, digest, size) < size // 3:
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    return journal(home, digest, size)


def test_a_killed_download_goes_on_where_it_was(work: Workplace) -> None:
    digest = published(work, SIZE)
    with slow(work, "6m") as (url, log):
        locked(work, url)
        arrived = kill_in_the_middle(work, digest, SIZE)
        assert SIZE // 3 <= arrived < SIZE
        done = subprocess.run(INSTALL, cwd=work.project, capture_output=True, text=True, check=True)
        pieces = sent(log, digest)
    assert "were here already" in done.stderr
    assert len(pieces) == 4  # two pieces, twice
    assert sum(pieces[-2:]) == SIZE - arrived
    work.adpm("verify")
    assert list((work.root / "fresh" / "staging").iterdir()) == []


def test_two_processes_that_want_the_same_blob(work: Workplace) -> None:
    published(work, SIZE)
    with slow(work, "30m") as (url, _):
        locked(work, url)
        running = [subprocess.Popen(INSTALL, cwd=work.project, stderr=subprocess.PIPE) for _ in range(3)]
        assert [process.wait() for process in running] == [0, 0, 0]
        for process in running:
            process.communicate()
    work.adpm("verify")
    assert list((work.root / "fresh" / "staging").iterdir()) == []
    assert list((work.root / "fresh" / "tmp").iterdir()) == []


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SMALL_BYTES", 10_000)
    monkeypatch.setattr(limits, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(limits, "MARK_BYTES", 10_000)


def left_over(digest: Digest, size: int, data: bytes, lines: bytes) -> None:
    """What an earlier process left of a download."""
    staging = Path(os.environ["ADPM_HOME"]) / "staging"
    staging.mkdir(parents=True)
    (staging / digest.hex).write_bytes(data.ljust(size, b"\0") + lines)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_come_over_several_connections(work: Workplace) -> None:
    digest = published(work, 450_000)
    with slow(work, "0") as (url, log):
        locked(work, url)
        work.adpm("install", "--locked")
        assert sorted(sent(log, digest)) == [50_000, *[100_000] * 4]
    work.adpm("verify")


@pytest.mark.usefixtures("small_pieces")
def test_a_server_without_ranges(work: Workplace) -> None:
    digest = published(work, 450_000)
    data = hashlib.shake_256(b"large").digest(450_000)
    with plain(work.root / "registry") as url:
        locked(work, url)
        work.adpm("install", "--locked")
        work.adpm("verify")
        os.environ["ADPM_HOME"] = str(work.root / "second")
        left_over(digest, 450_000, data[:100_000], b"0 100000\n")
        work.adpm("install", "--locked")
    work.adpm("verify")


@pytest.mark.usefixtures("small_pieces")
def test_a_wrong_partial_is_thrown_away_and_fetched_once(work: Workplace) -> None:
    digest = published(work, 450_000)
    with slow(work, "0") as (url, log):
        locked(work, url)
        left_over(digest, 450_000, bytes(100_000), b"0 100000\n")
        work.adpm("install", "--locked")
        assert sum(sent(log, digest)) == 350_000 + 450_000
    work.adpm("verify")


@pytest.mark.usefixtures("small_pieces")
def test_a_registry_that_has_other_bytes(work: Workplace) -> None:
    digest = published(work, 450_000)
    with slow(work, "0") as (url, _):
        locked(work, url)
        blob = work.root / "registry" / "packages" / "text" / "large" / "blobs" / "sha256" / digest.hex
        blob.chmod(0o644)
        for other in (bytes(450_000), bytes(450_001), bytes(449_999)):
            blob.write_bytes(other)
            assert "error[digest-mismatch]" in work.adpm("install", "--locked", status=6).err
        blob.write_bytes(hashlib.shake_256(b"large").digest(450_000))
        work.adpm("install", "--locked")
    work.adpm("verify")


@pytest.mark.usefixtures("small_pieces")
def test_gc_takes_old_partial_downloads(work: Workplace) -> None:
    digest = published(work, 450_000)
    with slow(work, "0") as (url, _):
        locked(work, url)
    left_over(digest, 450_000, b"", b"")
    work.adpm("gc")
    path = work.root / "fresh" / "staging" / digest.hex
    assert path.exists()
    old = time.time() - limits.TEMPORARY_AGE_SECONDS - 10
    os.utime(path, (old, old))
    work.adpm("gc")
    assert not path.exists()


def test_how_many_connections(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    published(work, 1000)
    with slow(work, "0") as (url, _):
        locked(work, url)
        for wrong in ("0", "257", "many", "-1", "²"):
            monkeypatch.setenv("ADPM_CONNECTIONS", wrong)
            ran = work.adpm("install", "--locked", status=2)
            assert "error[setting-invalid]" in ran.err
            assert wrong in ran.err
        monkeypatch.setenv("ADPM_CONNECTIONS", "1")
        work.adpm("install", "--locked")


def on_a_terminal(work: Workplace, *arguments: str, term: str = "xterm") -> str:
    """What an install writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": term, "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(
        [sys.executable, "-m", "adpm", *arguments, "install", "--locked"],
        cwd=work.project,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as running:
        os.close(theirs)
        out = bytearray()
        while running.poll() is None or select.select([ours], [], [], 0.1)[0]:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    out += os.read(ours, 1 << 16)
                except OSError:  # the other side is closed
                    break
        assert running.wait() == 0
    os.close(ours)
    return out.decode()


def test_what_a_terminal_shows(work: Workplace) -> None:
    published(work, 2_000_000)
    with slow(work, "2m") as (url, _):
        locked(work, url)
        shown = on_a_terminal(work)
        assert "fetching" in shown
        assert "text/large: README.md" in shown
        assert re.search(r"/2\.0\S* MB", shown)
        assert "MB/s" in shown
        assert "+ text/large 1.0" in shown
        os.environ["ADPM_HOME"] = str(work.root / "second")
        assert on_a_terminal(work, "--quiet") == ""
        os.environ["ADPM_HOME"] = str(work.root / "third")
        dumb = on_a_terminal(work, term="dumb")
        assert "\x1b" not in dumb
        assert "fetched text/large: README.md, 2.0 MB" in dumb


def test_what_a_log_shows(work: Workplace) -> None:
    published(work, 2_000_000)
    with slow(work, "0") as (url, _):
        locked(work, url)
        lines = work.adpm("install", "--locked").err.splitlines()
        assert lines[0].startswith("fetching ")
        assert "fetched text/large: README.md, 2.0 MB" in lines
        assert not any("config.json" in line for line in lines)  # small ones only with --verbose
        os.environ["ADPM_HOME"] = str(work.root / "second")
        assert any("config.json" in line for line in work.adpm("--verbose", "install", "--locked").err.splitlines())
        os.environ["ADPM_HOME"] = str(work.root / "third")
        assert work.adpm("--quiet", "install", "--locked").err == ""


def test_json_is_left_alone(work: Workplace) -> None:
    published(work, 1000)
    with slow(work, "0") as (url, _):
        locked(work, url)
        work.adpm("install", "--locked")
    assert json.loads(work.adpm("list", "--json").out)["schema"].startswith("adpm.list/")
