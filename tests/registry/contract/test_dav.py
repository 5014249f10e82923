"""The contract, kept by web servers that speak WebDAV."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.registry.records import MARKER, MARKER_DATA
from adpm.testing import Pair, WriteContract
from tests.registry.davs import Dav


class DavContract(WriteContract):
    @pytest.fixture
    def pair(self, server: Dav, tmp_path: Path) -> Pair:
        url, directory = server.place()
        (directory / MARKER).write_bytes(MARKER_DATA)
        return Pair(open_registry("web", url, tmp_path, tmp_path / "cache"), open_registry("web", url + "/", tmp_path))


class TestApache(DavContract):
    @pytest.fixture
    def server(self, apache: Dav) -> Dav:
        return apache


class TestWsgidav(DavContract):
    @pytest.fixture
    def server(self, wsgidav: Dav) -> Dav:
        return wsgidav


class TestNginx(DavContract):
    @pytest.fixture
    def server(self, nginx_dav: Dav) -> Dav:
        return nginx_dav
