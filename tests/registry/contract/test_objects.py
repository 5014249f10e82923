"""The contract, kept by object stores: real ones on loopback, and memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.registry.place import WritablePlace
from adpm.registry.placed import PlacedRegistry
from adpm.registry.records import MARKER, MARKER_DATA
from adpm.testing import Pair, WriteContract
from tests.registry import stores

_numbers = itertools.count()


def opened(kind: str, path: Path) -> Pair:
    """A new, empty registry."""
    url = f"{kind}://adpm/registries/{next(_numbers)}"
    registry = open_registry("store", url, path)
    assert isinstance(registry, PlacedRegistry)
    assert isinstance(registry._place, WritablePlace)
    registry._place.create(MARKER, [MARKER_DATA])
    return Pair(registry, registry)


class S3Contract(WriteContract):
    @pytest.fixture
    def pair(self, server: stores.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return opened("s3", tmp_path)


class TestSeaweed(S3Contract):
    @pytest.fixture
    def server(self, seaweed: stores.S3) -> stores.S3:
        return seaweed


class TestMoto(S3Contract):
    @pytest.fixture
    def server(self, moto: stores.S3) -> stores.S3:
        return moto


class TestRclone(S3Contract):
    @pytest.fixture
    def server(self, rclone: stores.S3) -> stores.S3:
        return rclone


class EmulatedContract(WriteContract):
    """An emulator that is too heavy for a plain run; only ``pytest -m slow`` with its packages installed starts it."""

    scheme: str

    @pytest.fixture
    def pair(self, environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return opened(self.scheme, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # how these libraries send
class TestGoogle(EmulatedContract):
    scheme = "gs"

    @pytest.fixture
    def environment(self, google: Mapping[str, str]) -> Mapping[str, str]:
        return google


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
class TestAzure(EmulatedContract):
    scheme = "az"

    @pytest.fixture
    def environment(self, azure: Mapping[str, str]) -> Mapping[str, str]:
        return azure


class TestMemory(WriteContract):
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Pair:
        pytest.importorskip("fsspec")
        return opened("memory", tmp_path)
