"""``kill -9`` at random moments of publish and install: nothing corrupt, nothing lost that was acknowledged, and the
next command succeeds.

``ADPM_KILLS`` sets how many moments are tried in all, 200 unless told; ``ADPM_KILLS=2000 pytest tests/crash`` looks
longer. Who has seen a failure repeats its moments, as far as a machine can, with the ``ADPM_SEED`` it printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from adpm.core.names import PackageName
from adpm.formats.lock import read_lock
from adpm.registry.directory import open_directory
from adpm.registry.placed import PlacedRegistry
from adpm.store.store import Store
from tests.making import make_adapter, make_base

KILLS = int(os.environ.get("ADPM_KILLS", "200"))
NAME = PackageName("text/sst-2")
KILLED = -9


class Worker:
    """Commands one after the other; see ``worker``."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self._process = process
        self._output = output

    def run(self, *arguments: str, directory: Path, home: Path, kill_after: float | None = None) -> int:
        order: dict[str, Any] = {"arguments": arguments, "directory": str(directory), "home": str(home)}
        order |= {"kill_after": kill_after, "output": str(self._output)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def succeed(self, *arguments: str, directory: Path, home: Path) -> float:
        """Run to the end; the seconds that took."""
        began = time.monotonic()
        assert self.run(*arguments, directory=directory, home=home) == 0, self._output.read_text()
        return time.monotonic() - began


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    command = [sys.executable, "-m", "tests.crash.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Worker(process, tmp_path / "output")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@contextmanager
def chance() -> Iterator[random.Random]:
    seed = int(os.environ.get("ADPM_SEED") or random.SystemRandom().randrange(1 << 32))
    try:
        yield random.Random(seed)
    except BaseException:
        print(f"ADPM_SEED={seed}")
        raise


def package(root: Path, name: str, version: str) -> Path:
    """A package large enough to be killed in: half a megabyte beside its weights."""
    directory = make_adapter(root / "packages" / name / version, name, version, base=root / "base")
    (directory / "README.md").write_bytes(hashlib.shake_256(f"{name} {version}".encode()).digest(500_000))
    return directory


def check_registry(root: Path, registry: PlacedRegistry, acknowledged: list[str]) -> None:
    """All that was acknowledged is listed; all that is listed is whole; every blob is what its name says."""
    listings = registry.versions(NAME) if acknowledged else ()
    assert {str(listing.version) for listing in listings} >= set(acknowledged)
    whole = set()
    for blob in (root / "packages" / NAME / "blobs" / "sha256").glob("*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        whole.add(blob.name)
    for listing in listings:
        release = registry.confirmed(listing).release
        assert {file.blob.digest.hex for file in release.files} <= whole


def test_publish(worker: Worker, tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    root, home = tmp_path / "registry", tmp_path / "home"
    registry = open_directory("here", str(root), tmp_path, None)

    def publish(version: str) -> tuple[str, ...]:
        return "publish", str(package(tmp_path, NAME, version)), "--registry", str(root), "--init"

    acknowledged = [f"0.{i}" for i in range(5)]
    took = median(worker.succeed(*publish(version), directory=tmp_path, home=home) for version in acknowledged)
    killed = 0
    with chance() as moments:
        for i in range(KILLS // 2):
            command = publish(f"1.{i}")
            status = worker.run(*command, directory=tmp_path, home=home, kill_after=moments.uniform(0, took))
            assert status in {0, KILLED}
            killed += status == KILLED
            if status == 0:
                acknowledged.append(f"1.{i}")
            check_registry(root, registry, acknowledged)
            worker.succeed(*command, directory=tmp_path, home=home)
            acknowledged.append(f"1.{i}")
            check_registry(root, registry, acknowledged)
    assert killed > KILLS // 8, "the moments came too late to mean anything"
    index = (root / "packages" / NAME / "index.json").read_bytes()
    registry.rebuild_index(NAME)
    assert (root / "packages" / NAME / "index.json").read_bytes() == index
    assert Store(home).verify_all(workers=2).corrupt == ()


def check_store(home: Path, project: Path, *, installed: bool) -> None:
    """Every object is whole; after an acknowledged install all that the lock names is there."""
    store = Store(home)
    assert store.verify_all(workers=1).corrupt == ()
    if installed:
        lock = read_lock((project / "adapter.lock").read_bytes(), "adapter.lock")
        for locked in lock.packages.values():
            for _, blob in locked.blobs():
                store.map(blob)


def test_install(worker: Worker, tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    adapters = {f"a{i}": f"text/a{i} ==1.0" for i in range(6)}
    for i in range(6):
        directory = package(tmp_path, f"text/a{i}", "1.0")
        worker.succeed("publish", str(directory), "--registry", "../registry", "--init", directory=project, home=home)
    registries = [{"name": "here", "url": "../registry"}]
    (project / "adapter.yaml").write_text(json.dumps({"registries": registries, "adapters": adapters}))
    worker.succeed("lock", directory=project, home=home)
    locked = (project / "adapter.lock").read_bytes()
    install = ("install", "--locked")
    took = median(worker.succeed(*install, directory=project, home=tmp_path / f"first{i}") for i in range(5))
    killed = 0
    with chance() as moments:
        for i in range(KILLS // 2):
            home = tmp_path / f"home{i}"
            status = worker.run(*install, directory=project, home=home, kill_after=moments.uniform(0, took))
            assert status in {0, KILLED}
            killed += status == KILLED
            check_store(home, project, installed=status == 0)
            worker.succeed(*install, directory=project, home=home)
            check_store(home, project, installed=True)
            shutil.rmtree(home)
    assert killed > KILLS // 8, "the moments came too late to mean anything"
    assert (project / "adapter.lock").read_bytes() == locked
