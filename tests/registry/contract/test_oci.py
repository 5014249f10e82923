"""The contract, kept by a real OCI registry: open to all, behind a password, and with large files in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from adpm.registry import oci
from adpm.registry.open import open_registry
from adpm.registry.upload import upload
from adpm.testing import Pair, WriteContract
from tests.registry.oci import docker_registry, log_in


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


class TestDockerRegistry(WriteContract):
    EPOCHS = ()
    ATTACHMENTS = True

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Pair]:
        with docker_registry(tmp_path / "server") as host:
            registry = open_registry("oci", f"oci://{host}/team/adapters", tmp_path)
            yield Pair(registry, registry)


class TestWithPassword(WriteContract):
    """Reader and publisher share nothing; there is no prefix."""

    EPOCHS = ()
    ATTACHMENTS = True

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Pair]:
        with docker_registry(tmp_path / "server", password=True) as host:
            log_in(tmp_path / "docker", host)
            yield Pair(*(open_registry("oci", f"oci+http://{host}", tmp_path) for _ in range(2)))


class TestInChunks(WriteContract):
    EPOCHS = ()
    ATTACHMENTS = True

    @pytest.fixture
    def pair(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
        monkeypatch.setattr(oci, "upload", partial(upload, piece=400_000))
        with docker_registry(tmp_path / "server") as host:
            registry = open_registry("oci", f"oci://{host}/team", tmp_path)
            yield Pair(registry, registry)
