"""verify, gc and checkout on a real project."""

from __future__ import annotations

import json
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace


def _objects(work: Workplace) -> list[Path]:
    return [path for path in (work.root / "home" / "objects").rglob("*") if path.is_file()]


def test_a_damaged_object_is_set_aside_and_fetched_again(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    lock = json.loads(work.read("adapter.lock"))
    digest = lock["packages"]["text/sst-2"]["files"]["adapter.safetensors"]["digest"]
    victim = next(path for path in _objects(work) if digest.endswith(path.parent.name + path.name))
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    ran = work.adpm("verify", status=6)
    assert "1 damaged" in ran.out
    assert "text/sst-2: adapter.safetensors" in ran.err
    assert "+ text/sst-2 1.0" in work.adpm("install", "--locked").err
    work.adpm("verify")


def test_gc_keeps_what_known_projects_lock(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.publish("text/sst-2", "1.1", seed=1)
    work.start()
    work.adpm("add", "text/sst-2")
    kept = len(json.loads(work.read("adapter.lock"))["packages"]["text/sst-2"]["files"]) + 2
    before = len(_objects(work))
    assert f"kept {kept}" in work.adpm("gc", "--dry-run").out
    assert len(_objects(work)) == before
    work.adpm("gc")
    assert len(_objects(work)) == kept
    assert "1 package installed" in work.adpm("install", "--offline").err
    (work.project / "adapter.lock").unlink()
    work.adpm("gc")
    assert _objects(work) == []


def test_gc_touches_nothing_if_a_lock_cannot_be_read(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    before = _objects(work)
    (work.project / "adapter.lock").write_text("{", encoding="utf-8")
    assert "error[lock-invalid]" in work.adpm("gc", status=1).err
    assert _objects(work) == before


def test_checkout_makes_plain_directories_and_replaces_only_its_own(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en"])
    work.start()
    work.adpm("add", "text/sst-2", "--as", "sst")
    work.adpm("checkout")
    directory = work.project / "adapters"
    source = work.root / "packages" / "text-sst-2" / "1.0"
    for name in ("adapter.safetensors", "adapter_config.json"):
        assert (directory / "sst" / name).read_bytes() == (source / name).read_bytes()
    assert (directory / "lang" / "en" / "adapter.safetensors").is_file()
    work.adpm("checkout")
    other = work.project / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("x", encoding="utf-8")
    assert "error[checkout-exists]" in work.adpm("checkout", "mine", status=2).err
    assert (other / "thesis.txt").read_text(encoding="utf-8") == "x"
    assert sorted(os.listdir(work.project)) == ["adapter.lock", "adapter.yaml", "adapters", "mine"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def test_two_registries_one_of_them_a_web_server(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.publish("lang/en", "1.0", registry="../public")
    work.publish("team/sst", "1.0", registry="../private", requires=["lang/en"])
    work.publish("team/sst", "2.0", registry="../public")

    class Handler(_Quiet):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(work.root / "public"), **kwargs)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            work.start()
            work.adpm("registry", "remove", "here")
            work.adpm("registry", "add", "web", f"http://127.0.0.1:{server.server_port}/")
            work.adpm("registry", "add", "team", "../private", "--packages", "team/*")
            work.adpm("add", "team/sst")
            packages = json.loads(work.read("adapter.lock"))["packages"]
            assert {n: (p["version"], p["registry"]) for n, p in packages.items()} == {
                "lang/en": ("1.0", "web"),
                "team/sst": ("1.0", "team"),  # the owner of team/* is the only one asked for it
            }
            assert "127.0.0.1" not in work.read("adapter.lock")
            monkeypatch.setenv("ADPM_HOME", str(work.root / "home2"))
            assert "fetched 2 packages" in work.adpm("install").err
        finally:
            server.shutdown()
            thread.join()
    monkeypatch.setenv("ADPM_HOME", str(work.root / "home3"))
    assert "error[" in work.adpm("install", status=7).err
