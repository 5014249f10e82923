"""``huggingface_hub`` in this process, apart from whatever the machine and the environment have set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants


@contextmanager
def fresh_library(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library with an empty cache below ``home``, without a login, and on the network."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        yield
    finally:
        huggingface_hub.close_session()
