"""The contract, kept by a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.registry.records import MARKER
from adpm.testing import Pair, WriteContract


class TestDirectory(WriteContract):
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Pair:
        (tmp_path / "registry").mkdir()
        (tmp_path / "registry" / MARKER).write_text('{"format": 1}\n')
        registry = open_registry("here", "registry", tmp_path)
        return Pair(registry, registry)
