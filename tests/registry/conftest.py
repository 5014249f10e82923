"""No connection outlives its test; a store that takes seconds to start serves all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.net.clients import close_all
from tests.registry import davs, servers, stores


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3]:
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3]:
    with stores.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.S3]:
    with stores.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def apache() -> Iterator[davs.Dav]:
    with davs.apache() as server:
        yield server


@pytest.fixture(scope="session")
def wsgidav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[davs.Dav]:
    with davs.wsgidav(tmp_path_factory.mktemp("wsgidav")) as server:
        yield server


@pytest.fixture(scope="session")
def nginx_dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[davs.Dav]:
    with davs.nginx_dav(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with stores.google(tmp_path_factory.mktemp("google")) as environment:
        yield environment


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with stores.azure(tmp_path_factory.mktemp("azure")) as environment:
        yield environment


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Sshd]:
    pytest.importorskip("paramiko")
    with servers.sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
