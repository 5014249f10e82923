"""The contract, kept by a Hub: below one owner, and by two who share nothing but the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.testing import Pair, ReadContract, WriteContract


@pytest.mark.usefixtures("hub")
class TestHub(WriteContract):
    EPOCHS = ()
    CHANNELS = False

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Pair:
        registry = open_registry("hub", "hf://alice", tmp_path)
        return Pair(registry, registry)


@pytest.mark.usefixtures("hub")
class TestTwoUsers(ReadContract):
    EPOCHS = ()
    CHANNELS = False

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Pair:
        return Pair(*(open_registry("hub", "hf://alice", tmp_path, tmp_path / str(n)) for n in range(2)))
