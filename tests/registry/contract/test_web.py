"""The contract, kept over HTTP by real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.registry.records import MARKER
from adpm.testing import Pair, ReadOnlyContract
from tests.registry import servers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    root.mkdir()
    (root / MARKER).write_text('{"format": 1}\n')
    return root


class TestNginx(ReadOnlyContract):
    @pytest.fixture
    def pair(self, root: Path, tmp_path: Path) -> Iterator[Pair]:
        with servers.nginx(root, tmp_path / "nginx") as url:
            yield Pair(
                open_registry("web", url, tmp_path, tmp_path / "cache"), open_registry("here", str(root), tmp_path)
            )


class TestPlain(ReadOnlyContract):
    @pytest.fixture
    def pair(self, root: Path, tmp_path: Path) -> Iterator[Pair]:
        with servers.plain(root) as url:
            yield Pair(
                open_registry("web", url + "/", tmp_path, tmp_path / "cache"),
                open_registry("here", root.as_uri(), tmp_path),
            )
