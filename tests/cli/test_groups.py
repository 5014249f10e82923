"""Groups of adapters: locked with the others, installed when asked for."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Workplace


@pytest.fixture
def grouped(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A locked project with text/sst-2, text/probe (requires lang/en) in group dev, text/eval in group eval."""
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", seed=1)
    work.publish("text/probe", "1.0", requires=["lang/en"], seed=2)
    work.publish("text/eval", "1.0", seed=3)
    manifest = {
        "base": {"path": "../base"},
        "registries": [{"name": "here", "url": "../registry"}],
        "adapters": {"sst": "text/sst-2"},
        "groups": {"dev": {"probe": "text/probe"}, "eval": {"eval": "text/eval"}},
        "compose": {"default": "sst", "both": "stack(sst, probe)"},
    }
    (work.project / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    work.adpm("lock")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "home2"))
    return work


def test_all_groups_are_locked_together(grouped: Workplace) -> None:
    lock = json.loads(grouped.read("adapter.lock"))
    assert set(lock["packages"]) == {"lang/en", "text/sst-2", "text/probe", "text/eval"}
    assert {alias: entry.get("group") for alias, entry in lock["adapters"].items()} == {
        "sst": None,
        "probe": "dev",
        "eval": "eval",
    }
    grouped.adpm("lock", "--locked")
    manifest = json.loads(grouped.read("adapter.yaml"))
    manifest["groups"]["eval"]["probe"] = manifest["groups"]["dev"].pop("probe")
    (grouped.project / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    ran = grouped.adpm("lock", "--locked", status=8)
    assert "probe is for the base, group eval; in the lock it is for the base, group dev" in ran.err


def test_a_group_is_installed_when_it_is_asked_for(grouped: Workplace) -> None:
    ran = grouped.adpm("install", "--locked")
    assert ran.err.splitlines()[-1] == "1 package installed"
    assert "1 package installed" in grouped.adpm("install").err
    grouped.adpm("verify")
    assert "1 package installed" in grouped.adpm("install", "--offline").err
    assert "error[offline]" in grouped.adpm("install", "--offline", "--group", "dev", status=7).err
    ran = grouped.adpm("install", "--group", "dev")
    assert "+ lang/en 1.0\n+ text/probe 1.0" in ran.err
    assert "3 packages installed" in ran.err
    assert "error[store-damaged]" in grouped.adpm("verify", "--group", "eval", status=6).err
    assert "1 package installed" in grouped.adpm("install", "--only", "eval").err
    grouped.adpm("verify", "--group", "eval", "--group", "dev")
    ran = grouped.adpm("install", "--group", "deu", status=5)
    assert "error[group-unknown]" in ran.err
    assert "groups are: dev, eval" in ran.err


def test_a_group_is_checked_out_when_it_is_asked_for(grouped: Workplace) -> None:
    grouped.adpm("install")
    assert grouped.adpm("checkout", "out").out.split() == ["sst", "out/sst"]
    grouped.adpm("install", "--only", "dev")
    names = [line.split()[0] for line in grouped.adpm("checkout", "out", "--only", "dev").out.splitlines()]
    assert names == ["probe", "lang/en"]


def test_an_adapter_of_a_group_is_not_removed_by_a_command(grouped: Workplace) -> None:
    before = grouped.read("adapter.yaml")
    ran = grouped.adpm("remove", "probe", status=2)
    assert "error[alias-in-group]: 'probe' stands under groups.dev" in ran.err
    assert "error[manifest-layout]" in grouped.adpm("add", "text/eval", "--as", "probe", status=2).err
    assert grouped.read("adapter.yaml") == before
