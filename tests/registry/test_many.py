"""Publishers of one package at the same time, as many as a CI has: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adpm.core.names import PackageName
from adpm.registry.open import open_registry
from adpm.registry.port import IndexedRegistry
from tests.registry import stores
from tests.registry.oci import docker_registry

NAME = PackageName("text/sst-2")
KINDS = ["directory", "seaweed", "oci"]


@contextmanager
def address(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, work: Path) -> Iterator[str]:
    if kind == "directory":
        yield str(work / "registry")
    elif kind == "seaweed":
        server: stores.S3 = request.getfixturevalue("seaweed")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield f"s3://adpm/many/{request.node.name}"
    else:
        with docker_registry(work / "server") as host:
            yield f"oci://{host}/many"


def publish(url: str, work: Path, count: int, mode: str) -> list[dict[str, Any]]:
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.registry.publishers", url, str(work / "publishers"), str(count), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    slowest = max(one["seconds"] for one in told)
    print(f"{count} publishers of {url}: {time.monotonic() - began:.1f} s, the slowest {slowest:.1f} s")
    assert len(told) == count
    return told


@pytest.mark.slow  # 64 processes on two cores
@pytest.mark.parametrize("kind", KINDS)
def test_64_versions(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with address(kind, request, monkeypatch, tmp_path) as url:
        told = publish(url, tmp_path, 64, "different")
        assert sorted(one["told"] for one in told) == sorted(f"1.{me}" for me in range(64))
        registry = open_registry("many", url, tmp_path)
        assert isinstance(registry, IndexedRegistry)
        listed = registry.versions(NAME)
        assert Counter(str(listing.version) for listing in listed) == Counter(f"1.{me}" for me in range(64))
        for listing in listed[::16]:
            registry.confirmed(listing)
        assert registry.rebuild_index(NAME) == listed


@pytest.mark.slow  # as above
@pytest.mark.parametrize("kind", KINDS)
def test_one_version_with_eight_contents(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with address(kind, request, monkeypatch, tmp_path) as url:
        told = Counter(one["told"].partition(":")[0] for one in publish(url, tmp_path, 8, "same"))
        listed = open_registry("many", url, tmp_path).versions(NAME)
    assert set(told) <= {"1.0", "version-taken"}
    if kind != "oci":
        assert (told["1.0"], len(listed)) == (1, 1)
        assert listed[0].yanked is None
    elif len(listed) == 1:
        assert told["1.0"] <= 1
    else:  # an OCI registry can't tell who was first: then nobody gets any of them by chance, and all are named
        assert told["1.0"] == 0
        for listing in listed:
            assert all(str(rival.manifest.digest) in str(listing.yanked) for rival in listed)
