"""A Hub of each test's own, and the library as somebody has it who has never used it: no login, an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.hub.library import fresh_library
from tests.registry.hub.server import Hub, serving


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as server, fresh_library(tmp_path / "hf", monkeypatch):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        yield server
