"""The same releases read from a Hub server of others, which takes no writes and says less of what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from adpm.core.names import PackageName
from adpm.errors import AdpmError, NotFoundError
from adpm.registry.hub_open import open_revision
from adpm.registry.open import open_registry
from adpm.testing.making import make
from tests.registry.hub.olah import olah
from tests.registry.hub.server import Hub
from tests.registry.hub.test_plain import adapter

NAME = PackageName("text/sst-2")


def test_reading_from_olah(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"adapter_config.json": b"{}", "adapter.safetensors": b"w" * 1_500_000}
    here = open_registry("hub", "hf://alice", tmp_path)
    for version in ("1.0", "1.1"):
        here.publish(make(tmp_path, version=version, files={**files, "NOTICE": version.encode()}))
    hub.create("alice/plain").upload({**adapter(tmp_path), "README.md": b"# Of somebody\n"}, tag="v0.1")
    plain = PackageName("plain")
    expected = here.versions(NAME), here.versions(plain), open_revision("alice/plain", None, None).listing
    (tmp_path / "hf").rename(tmp_path / "away")
    (tmp_path / "olah").mkdir()
    with olah(hub.repositories.values(), tmp_path / "olah") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "")
        there = open_registry("hub", "hf://alice", tmp_path)
        found = there.versions(NAME), there.versions(plain), open_revision("alice/plain", None, None).listing
        assert found == expected
        for name in (NAME, plain):
            for listing in there.versions(name):
                for file in there.confirmed(listing).release.files:
                    assert len(b"".join(there.blob(name, file.blob))) == file.blob.size
        with pytest.raises(NotFoundError) as missing:
            there.versions(PackageName("none"))
        assert missing.value.code == "package-not-found"
        with pytest.raises(AdpmError) as refused:
            there.publish(make(tmp_path, version="2.0"))
        assert refused.value.hint
