"""Commands with a Hub: publishing there, installing from there, and adapters taken from any repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm import limits
from adpm.core.names import Digest
from adpm.store import link
from adpm.store.store import Store
from tests.cli.conftest import Workplace
from tests.making import make_adapter
from tests.registry.hub.library import fresh_library
from tests.registry.hub.server import Hub, serving
from tests.store.test_store import no_reflink


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as server, fresh_library(tmp_path / "hf", monkeypatch):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        yield server


def forget(work: Workplace) -> None:
    """As on another machine: neither the store nor the Hub's cache has anything."""
    for name in ("home", "hf"):
        shutil.rmtree(work.root / name, ignore_errors=True)


def upload(hub: Hub, directory: Path, tag: str | None = None) -> str:
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "adapter.yaml"}
    repository = hub.repositories.get("AdapterHub/My_Squad") or hub.create("AdapterHub/My_Squad")
    return repository.upload(files, tag=tag)


def test_one_release_in_a_directory_and_on_the_hub(work: Workplace, hub: Hub) -> None:
    work.start()
    directory = work.package("text/sst-2", "1.0", requires=["lang/en >=1"])
    english = work.package("lang/en", "1.0", seed=3)
    digests = [work.adpm("publish", at, "--registry", "../registry", "--init").out for at in (directory, english)]
    assert [work.adpm("publish", at, "--registry", "hf://alice").out for at in (directory, english)] == digests
    assert set(hub.repositories) == {"alice/text__sst-2", "alice/lang__en"}
    for first, second in (("../registry", "hf://alice"), ("hf://alice", "../registry")):
        manifest = work.project / "adapter.yaml"
        manifest.write_text(
            f'base: {{path: "{work.base}"}}\n'
            f'registries: [{{name: here, url: "{first}"}}]\n'
            "adapters: {sst: text/sst-2}\n"
        )
        work.adpm("lock")
        lock = work.read("adapter.lock")
        manifest.write_text(manifest.read_text().replace(first, second))
        forget(work)
        work.adpm("install", "--locked")
        assert work.read("adapter.lock") == lock
        work.adpm("verify")
        (work.project / "adapter.lock").unlink()


def test_an_adapter_of_any_repository(work: Workplace, hub: Hub) -> None:
    commit = upload(hub, make_adapter(work.root / "one", base=work.base, seed=1))
    work.start()
    manifest = work.project / "adapter.yaml"
    manifest.write_text(
        f'base: {{path: "{work.base}"}}\nadapters:\n  qa: {{package: "hf:AdapterHub/My_Squad", revision: main}}\n'
    )
    work.adpm("lock")
    package = json.loads(work.read("adapter.lock"))["packages"]["adapterhub/my_squad"]
    assert package["source"] == {"hub": "AdapterHub/My_Squad", "revision": "main", "commit": commit}
    assert set(package["files"]) == {"adapter.safetensors", "adapter_config.json"}
    assert package["version"] == f"0.dev{int(commit[:12], 16)}"
    lock = work.read("adapter.lock")

    newer = upload(hub, make_adapter(work.root / "two", base=work.base, seed=2))
    forget(work)
    work.adpm("install")  # what is locked stays, whatever main is by now
    assert work.read("adapter.lock") == lock
    work.adpm("verify")
    before = hub.count()
    work.adpm("install", "--offline")
    work.adpm("lock")
    assert hub.count() == before
    work.adpm("update")
    assert newer in work.read("adapter.lock")


@pytest.mark.parametrize("direct", [False, True])
def test_what_lies_in_the_hubs_cache_is_linked(
    work: Workplace, hub: Hub, monkeypatch: pytest.MonkeyPatch, *, direct: bool
) -> None:
    monkeypatch.setattr(limits, "SMALL_BYTES", 100)
    monkeypatch.setattr(link, "_reflink", no_reflink)
    upload(hub, make_adapter(work.root / "one", base=work.base), tag="1.0")
    work.start()
    adapter = '{package: "hf:AdapterHub/My_Squad"}' if direct else "adapterhub/my_squad"
    (work.project / "adapter.yaml").write_text(
        f'base: {{path: "{work.base}"}}\nregistries: [{{name: hub, url: "hf://"}}]\nadapters: {{qa: {adapter}}}\n'
    )
    work.adpm("lock")
    work.adpm("install")
    (package,) = json.loads(work.read("adapter.lock"))["packages"].values()
    (weights,) = (entry for path, entry in package["files"].items() if path.endswith(".safetensors"))
    stored = Store(work.root / "home").path(Digest(weights["digest"]))
    (cached,) = (path for path in (work.root / "hf").rglob("*.safetensors"))
    assert stored.samefile(cached)
    shutil.rmtree(work.root / "hf")
    work.adpm("verify")
    work.adpm("install", "--offline")


def test_sources_that_can_not_be_taken(work: Workplace, hub: Hub) -> None:
    upload(hub, make_adapter(work.root / "one", base=work.base))
    hub.create("alice/empty")
    work.start()
    for source, code in [
        ("hf:AdapterHub/My_Squad@v9", "revision-not-found"),
        ("hf:AdapterHub/none", "package-not-found"),
        ("hf:alice/empty", "adapter-not-found"),
    ]:
        work.refused(code, "add", source)
        assert "hf:" not in work.read("adapter.yaml")
    work.adpm("add", "hf:AdapterHub/My_Squad")
    hub.repositories["AdapterHub/My_Squad"].gated = True
    forget(work)
    said = work.refused("access-denied", "install")
    assert f"{hub.url}/AdapterHub/My_Squad" in said


def test_tags_of_any_repository_are_versions(work: Workplace, hub: Hub) -> None:
    repository = hub.create("team/squad")
    for seed, tag in enumerate(("v1.0", "v1.1")):
        directory = make_adapter(work.root / tag, base=work.base, seed=seed)
        repository.upload({path.name: path.read_bytes() for path in directory.iterdir()}, tag=tag)
    work.adpm("init", "--base", work.base)
    work.adpm("registry", "add", "hub", "hf://")
    work.adpm("add", "team/squad <1.1")
    package = json.loads(work.read("adapter.lock"))["packages"]["team/squad"]
    assert (package["version"], package["registry"]) == ("1.0", "hub")
    assert set(package["files"]) == {"adapter.safetensors", "adapter_config.json"}
    forget(work)
    work.adpm("install")
    work.adpm("verify")


def test_what_a_hub_can_do(work: Workplace, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.create("alice/text__sst-2")

    def checked(owner: str, token: str) -> list[bool | None]:
        monkeypatch.setenv("HF_TOKEN", token)
        found = work.adpm("registry", "check", f"hf://{owner}", "--json").json["abilities"]
        abilities = {ability["name"]: ability["ok"] for ability in found}
        assert [abilities.pop(name) for name in ("reachable", "reads", "listing")] == [True] * 3
        return list(abilities.values())

    assert checked("alice", "hf_alice") == [True, True]
    assert checked("bob", "hf_alice") == [True, False]
    assert checked("alice", "hf_reader") == [True, False]
    assert checked("alice", "") == [None, False]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not take the token" in work.refused("login-needed", "registry", "check", "hf://alice")
