"""Whole commands through a real OCI registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Workplace
from tests.registry.oci import docker_registry, log_in


def test_from_publish_to_yank(work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with docker_registry(tmp_path / "server", password=True) as host:
        url = f"oci://{host}/team"
        refused = work.adpm("publish", work.package("lang/en", "1.0"), "--registry", url, status=4)
        assert f"adpm login {host}" in refused.err
        log_in(tmp_path / "docker", host)
        work.adpm("publish", work.package("lang/en", "1.0"), "--registry", url)
        first = work.adpm("publish", work.package("text/sst-2", "1.0", requires=["lang/en"]), "--registry", url)
        again = work.adpm("publish", work.package("text/sst-2", "1.0", requires=["lang/en"]), "--registry", url)
        assert again.out == first.out
        assert "published already" in again.err
        assert first.out.strip() == work.publish("text/sst-2", "1.0", requires=["lang/en"])  # in a directory, too
        work.adpm("init", "--base", work.base)
        work.adpm("registry", "add", "oci", url)
        work.adpm("add", "text/sst-2", "--as", "sst")
        assert first.out.strip() in work.read("adapter.lock")
        shutil.rmtree(tmp_path / "home")
        work.adpm("install", "--locked")
        work.adpm("verify")
        work.adpm("yank", "text/sst-2", "1.0", "--registry", "oci", "--reason", "trained on test data")
        assert "trained on test data" in work.adpm("info", "text/sst-2").out
        work.adpm("install", "--locked")
        assert "text/sst-2: 1 release" in work.adpm("registry", "rebuild", "oci").err


def test_what_is_attached_to_a_release(work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    notes = work.project / "notes.md"
    with docker_registry(tmp_path / "server") as host:
        where = ["text/sst-2", "1.0"], ["--registry", f"oci://{host}/team"]
        work.adpm("publish", work.package("text/sst-2", "1.0"), *where[1])
        assert work.adpm("attachment", "list", *where[0], *where[1]).out == ""
        notes.write_text("# Seen on test data?\n", encoding="utf-8")
        added = work.adpm("attachment", "add", *where[0], "notes.md", "--type", "text/markdown", *where[1])
        ((digest, kind),) = [
            line.split() for line in work.adpm("attachment", "list", *where[0], *where[1]).out.splitlines()
        ]
        assert kind == "text/markdown"
        assert digest in added.err
        listed = work.adpm("attachment", "list", *where[0], *where[1], "--json").json
        assert (listed["schema"], listed["attachments"]) == (
            "adpm.attachments/1",
            [{"digest": digest, "type": "text/markdown"}],
        )
        work.adpm("attachment", "get", *where[0], digest[:15], "--to", "got", *where[1])
        assert (work.project / "got" / "notes.md").read_text(encoding="utf-8") == notes.read_text(encoding="utf-8")
        refused = work.adpm("attachment", "get", *where[0], digest, "--to", "got", *where[1], status=2)
        assert "file-exists" in refused.err
        work.adpm("attachment", "list", "text/sst-2", "2.0", *where[1], status=5)
