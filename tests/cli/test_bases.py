"""The project's bases and slots: what is locked for each, what changes are noticed, what another base would mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace
from tests.making import make_base


def write(work: Workplace, **parts: Any) -> None:
    registries = [{"name": "here", "url": "../registry"}]
    (work.project / "adapter.yaml").write_text(json.dumps({"registries": registries, **parts}), encoding="utf-8")


def locked(work: Workplace) -> dict[str, str]:
    return {key: package["version"] for key, package in json.loads(work.read("adapter.lock"))["packages"].items()}


@pytest.fixture
def wide(work: Workplace) -> Path:
    """A second base; of lang/en and text/sst-2, versions 1 are for the first, versions 2 for the second."""
    wide = make_base(work.root / "wide", hidden=64, layers=4)
    for name, requires in (("lang/en", ()), ("text/sst-2", ("lang/en",))):
        work.publish(name, "1.0", requires=requires)
        work.publish(name, "2.0", requires=requires, base=wide, hidden=64, layers=4)
    return wide


BASES = {"small": {"path": "../base"}, "wide": {"path": "../wide"}}


def test_several_bases_in_one_lock(work: Workplace, wide: Path) -> None:
    adapters = {
        "small-sst": {"package": "text/sst-2", "base": "small"},
        "wide-sst": {"package": "text/sst-2", "base": "wide"},
    }
    compose = {"default": "stack(lang/en, small-sst)", "wide": "stack(lang/en, wide-sst)"}
    write(work, bases=BASES, adapters=adapters, compose=compose)
    work.adpm("lock")
    assert locked(work) == {
        "lang/en:small": "1.0",
        "lang/en:wide": "2.0",
        "text/sst-2:small": "1.0",
        "text/sst-2:wide": "2.0",
    }
    before = work.read("adapter.lock")
    assert [*json.loads(before)["bases"]] == ["small", "wide"]
    assert "4 packages installed" in work.adpm("install", "--locked").err
    work.adpm("lock")
    assert work.read("adapter.lock") == before
    assert work.adpm("tree").out.splitlines()[:2] == ["small-sst: text/sst-2:small 1.0", "`-- lang/en:small 1.0"]
    assert "say which is meant: lang/en:small, lang/en:wide" in work.refused("package-not-locked", "why", "lang/en")
    write(work, bases=BASES, adapters={"small-sst": adapters["small-sst"]})
    work.adpm("lock")
    assert work.adpm("why", "text/sst-2").out == "small-sst: text/sst-2 1.0\n"
    write(work, bases=BASES, adapters=adapters, compose=compose)
    work.adpm("lock")
    work.publish("text/sst-2", "2.1", base=wide, hidden=64, layers=4, seed=3)
    assert "error[composition-unknown-name]" in work.adpm("update", "wide-sst", status=1).err
    write(work, bases=BASES, adapters=adapters)
    assert work.adpm("update", "wide-sst").err.startswith("- lang/en:wide 2.0\n~ text/sst-2:wide 2.0 -> 2.1")
    write(work, bases=BASES, adapters=adapters, compose={"x": "stack(small-sst, wide-sst)"})
    ran = work.adpm("lock", status=1)
    assert "error[composition-unknown-name]: compose.x uses 'wide-sst', which is not locked for that base" in ran.err


def test_an_adapter_says_which_base_it_is_for(work: Workplace, wide: Path) -> None:
    write(work, bases=BASES, adapters={"sst": {"package": "text/sst-2 <2", "base": "wide"}})
    assert "error[manifest-invalid]" in work.adpm("lock", status=1).err
    write(work, bases=BASES, adapters={"sst": {"package": "text/sst-2", "version": "<2", "base": "wide"}})
    ran = work.adpm("lock", status=3)
    assert "no set of releases meets what the project requires on the base wide" in ran.err
    assert "trained for hidden size 32, 2 layers, intermediate size 64; the project's base has 64, 4, 128" in ran.err
    write(work, bases=BASES, adapters={"sst": {"package": "text/sst-2", "base": "wide"}})
    work.adpm("lock")
    write(work, bases=BASES, adapters={"sst": {"package": "text/sst-2", "base": "small"}})
    ran = work.adpm("lock", "--locked", status=8)
    assert "sst is for base small; in the lock it is for base wide" in ran.err


def test_two_versions_of_a_package_side_by_side(work: Workplace) -> None:
    for version in ("1.0", "2.0"):
        work.publish("lang/en", version)
        work.publish("text/sst-2", version, requires=[f"lang/en =={version}"])
    two = {"package": "text/sst-2", "version": "==2.0", "slot": "b"}
    base = {"path": "../base"}
    write(work, base=base, adapters={"one": "text/sst-2 ==1.0", "two": two})
    ran = work.adpm("lock", status=3)
    assert (
        "every version of text/sst-2:b requires lang/en ==2.0" in ran.err.replace("text/sst-2:b 2.0", "every version")
        or "text/sst-2:b 2.0 requires lang/en ==2.0" in ran.err
    )
    write(work, base=base, adapters={"one": "text/sst-2 ==1.0", "two": two, "en": {"package": "lang/en", "slot": "b"}})
    work.adpm("lock")
    assert locked(work) == {"lang/en": "1.0", "lang/en:b": "2.0", "text/sst-2": "1.0", "text/sst-2:b": "2.0"}
    assert work.adpm("tree").out.splitlines() == [
        "en: lang/en:b 2.0",
        "one: text/sst-2 1.0 (==1.0)",
        "`-- lang/en 1.0 (==1.0)",
        "two: text/sst-2:b 2.0 (==2.0)",
        "`-- lang/en:b 2.0 (==2.0)",
    ]
    assert "4 packages installed" in work.adpm("install", "--locked").err
    assert sorted(path.name for path in (work.project / "out").glob("*")) == []
    work.adpm("checkout", "out")
    assert {path.name for path in (work.project / "out").glob("[a-z]*")} == {"en", "lang", "one", "two"}


def test_a_wip_directory_beside_the_release(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.package("text/sst-2", "1.1", seed=5)
    wip = {"path": "../packages/text-sst-2/1.1", "slot": "wip"}
    write(work, base={"path": "../base"}, adapters={"sst": "text/sst-2", "wip": wip})
    work.adpm("lock")
    assert locked(work) == {"text/sst-2": "1.0", "text/sst-2:wip": "1.1"}
    work.adpm("install", "--locked")


def test_a_base_that_changed_is_noticed(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    (work.base / "vocab.txt").write_text("[PAD]\nthe\n", encoding="utf-8")
    work.start()
    work.adpm("add", "text/sst-2")
    before = json.loads(work.read("adapter.lock"))["base"]
    assert before["tokenizer"].startswith("sha256:")
    (work.base / "vocab.txt").write_text("[PAD]\na\n", encoding="utf-8")
    assert "is not what was locked: its tokenizer" in work.adpm("lock", "--locked", status=8).err
    work.adpm("lock")
    after = json.loads(work.read("adapter.lock"))["base"]
    assert after.pop("tokenizer") != before.pop("tokenizer")
    assert after == before
    make_base(work.base, seed=9)
    assert "other weights" in work.adpm("install", "--locked", status=8).err
    assert "error[no-solution]" in work.adpm("lock", status=3).err


def test_what_is_locked_of_a_base_outlasts_a_machine_without_it(work: Workplace) -> None:
    snapshot = work.root / "hf/hub/models--team--tiny/snapshots" / ("0" * 40)
    make_base(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0" * 40, encoding="utf-8")
    work.publish("text/sst-2", "1.0")
    write(work, base="team/tiny", adapters={"sst": "text/sst-2"})
    work.adpm("lock")
    before = json.loads(work.read("adapter.lock"))["base"]
    assert {"shape", "sketch"} <= before.keys()
    snapshot.rename(work.root / "elsewhere")
    write(work, base="team/tiny", adapters={"sst": "text/sst-2 <2"})
    work.adpm("lock")
    assert json.loads(work.read("adapter.lock"))["base"] == before


def test_the_impact_of_another_base(work: Workplace, wide: Path) -> None:
    work.start()
    work.adpm("add", "text/sst-2", "--as", "sst")
    same = work.adpm("impact", "--base", "../base")
    assert same.out == "sst  text/sst-2 1.0  fits\nlang/en  lang/en 1.0  fits\n"
    ran = work.adpm("impact", "--base", "../wide", status=1)
    assert "sst  text/sst-2 1.0  does not fit: trained for hidden size 32, 2 layers" in ran.out
    assert "error[impact-misfit]: 2 adapters of 2 would not fit ../wide" in ran.err
    told = work.adpm("impact", "--base", "../wide", "--json", status=1).json
    assert [(entry["name"], entry["fits"]) for entry in told["adapters"]] == [("sst", False), ("lang/en", False)]
    assert told["base"]["shape"]["hidden_size"] == 64
    assert "error[base-not-cached]" in work.adpm("impact", "--base", "team/none", "--revision", "v2", status=5).err
    assert "error[base-unknown]" in work.adpm("impact", "--base", "../base", "--instead-of", "x", status=5).err


def test_impact_needs_the_cards_alone(work: Workplace, wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work.start()
    work.adpm("add", "text/sst-2", "--as", "sst")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "home2"))
    assert "error[offline]" in work.adpm("impact", "--base", "../base", "--offline", status=7).err
    work.adpm("impact", "--base", "../base")
    packages = json.loads(work.read("adapter.lock"))["packages"].values()
    stored = {path.name for path in (work.root / "home2").rglob("*") if path.is_file() and path.stat().st_size > 300}
    for package in packages:
        files = {file["digest"].removeprefix("sha256:") for file in package["files"].values()}
        assert not any(hexes.endswith(name) or name in hexes for hexes in files for name in stored)
    work.adpm("impact", "--base", "../base", "--offline")


def test_adding_for_a_base_and_in_a_slot(work: Workplace, wide: Path) -> None:
    manifest = """\
bases:
  small: {path: ../base}
  wide: {path: ../wide}
registries: [{name: here, url: ../registry}]
adapters: {}
groups:
  dev: {probe: {package: lang/en, base: small}}
"""
    (work.project / "adapter.yaml").write_text(manifest, encoding="utf-8")
    assert "does not say which base it is for" in work.adpm("add", "text/sst-2", status=2).err
    work.adpm("add", "text/sst-2", "--as", "a", "--base", "small")
    work.adpm("add", "text/sst-2", "--as", "b", "--base", "small", "--slot", "b")
    work.package("text/wip", "1.0")
    work.adpm("add", "../packages/text-wip/1.0", "--as", "wip", "--base", "small")
    entries = json.loads(work.read("adapter.lock"))["adapters"]
    assert {alias: (entry["base"], entry.get("slot")) for alias, entry in entries.items()} == {
        "a": ("small", None),
        "b": ("small", "b"),
        "probe": ("small", None),
        "wip": ("small", None),
    }
    work.adpm("remove", "b")
    assert set(locked(work)) == {"lang/en:small", "text/sst-2:small", "text/wip:small"}


def test_each_slot_is_installed_and_checked(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.publish("text/sst-2", "1.0")
    work.publish("text/sst-2", "2.0", seed=1)
    work.start()
    work.adpm("add", "text/sst-2 ==1.0", "--as", "a")
    work.adpm("add", "text/sst-2 ==2.0", "--as", "b", "--slot", "b")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "other"))
    said = work.adpm("install", "--locked").err
    assert "+ text/sst-2 1.0" in said
    assert "+ text/sst-2 2.0" in said
    entries = json.loads(work.read("adapter.lock"))
    first, second = entries["packages"].values()
    for changed, other in ((first, second), (second, first)):
        kept, changed["files"] = changed["files"], other["files"]
        (work.project / "adapter.lock").write_text(json.dumps(entries), encoding="utf-8")
        monkeypatch.setenv("ADPM_HOME", str(work.root / f"home {changed['version']}"))
        work.refused("lock-mismatch", "install")
        changed["files"] = kept
