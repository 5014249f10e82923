"""The life of a project: init, registry, add, lock, install, tree, update, remove."""

from __future__ import annotations

import json
import re
import socket
from typing import NoReturn

import pytest

from adpm.ops.root import belongs
from tests.cli.conftest import Workplace
from tests.making import make_base, write_safetensors


def test_the_main_job(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en >=1"])
    work.publish("text/sst-2", "1.3", requires=["lang/en >=1,<2"])
    work.publish("text/sst-2", "2.0")
    work.start()
    added = work.adpm("add", "text/sst-2 >=1,<2", "--as", "sst")
    assert added.out == ""
    assert "+ lang/en 1.0\n+ text/sst-2 1.3\n" in added.err
    assert "  sst: text/sst-2 >=1,<2\n" in work.read("adapter.yaml")
    lock = json.loads(work.read("adapter.lock"))
    assert {name: package["version"] for name, package in lock["packages"].items()} == {
        "lang/en": "1.0",
        "text/sst-2": "1.3",
    }
    assert work.adpm("tree").out == "sst: text/sst-2 1.3 (>=1,<2)\n`-- lang/en 1.0 (>=1,<2)\n"
    assert work.adpm("list").out.split("\n")[0].split() == ["sst", "text/sst-2", "1.3", "2.6", "kB", "here"]
    assert "2 packages installed" in work.adpm("install", "--locked").err
    assert work.adpm("verify", "--json").json["corrupt"] == []


def test_a_broken_manifest_above_is_named_with_its_path(work: Workplace) -> None:
    (work.project / "adapter.yaml").write_text("base: x/y\nnonsense: 1\n", encoding="utf-8")
    (work.project / "deep" / "er").mkdir(parents=True)
    below = work.adpm("-C", "deep/er", "lock", status=1)
    assert "../../adapter.yaml" in below.err
    here = work.adpm("lock", status=1)
    assert "adapter.yaml" in here.err
    assert "/adapter.yaml" not in here.err


def test_locking_again_keeps_what_is_locked_until_it_is_updated(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    before = work.read("adapter.lock")
    work.publish("text/sst-2", "1.1", seed=1)
    work.adpm("lock")
    assert work.read("adapter.lock") == before
    assert "~ text/sst-2 1.0 -> 1.1" in work.adpm("update", "--dry-run").err
    assert work.read("adapter.lock") == before
    assert "~ text/sst-2 1.0 -> 1.1" in work.adpm("update", "sst-2").err
    assert '"version": "1.1"' in work.read("adapter.lock")


def versions(work: Workplace) -> dict[str, str]:
    return {name: package["version"] for name, package in json.loads(work.read("adapter.lock"))["packages"].items()}


def test_an_update_of_one_adapter_moves_only_what_it_must(work: Workplace) -> None:
    """a 2.0 needs a newer lang/en, which b allows; a 3.0 one that c does not: c is an adapter of its own and stays."""
    for version in ("1.0", "2.0", "3.0"):
        work.publish("lang/en", version, seed=int(version[0]))
        work.publish("text/a", version, requires=[f"lang/en >={version}"], seed=int(version[0]))
    for name, wants in {"text/b": "lang/en", "text/c": "lang/en <3", "text/d": "lang/de"}.items():
        work.publish(name, "1.0", requires=[wants])
    work.publish("lang/de", "1.0")
    work.start()
    work.adpm("add", "text/a <2")
    work.adpm("add", "lang/en <2")
    for name in ("text/b", "text/c", "text/d"):
        work.adpm("add", name)
    work.adpm("remove", "en")
    for name, wants in {"text/b": "lang/en", "text/c": "lang/en", "text/d": "lang/de"}.items():
        work.publish(name, "2.0", requires=[wants], seed=2)
    work.publish("lang/de", "2.0", seed=2)
    work.adpm("add", "text/a")  # the constraint falls, and nothing moves
    before = versions(work)
    assert before == {
        "lang/de": "1.0",
        "lang/en": "1.0",
        "text/a": "1.0",
        "text/b": "1.0",
        "text/c": "1.0",
        "text/d": "1.0",
    }
    ran = work.adpm("update", "a", "--dry-run")
    assert versions(work) == before
    assert work.adpm("update", "a").err.startswith(ran.err)
    assert versions(work) == before | {"text/a": "2.0", "lang/en": "2.0"}
    work.adpm("update")
    assert set(versions(work).values()) == {"2.0", "3.0"}


@pytest.mark.parametrize("command", [["lock", "--locked"], ["lock", "--offline"], ["install", "--locked"], ["lock"]])
def test_comparing_manifest_and_lock_opens_no_socket(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    path = work.project / "adapter.yaml"
    remote = work.read("adapter.yaml").replace("../registry", "http://127.0.0.1:9/registry")
    path.write_text(remote, encoding="utf-8")

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    work.adpm(*command)
    path.write_text(remote.replace("text/sst-2", "text/sst-2 <2"), encoding="utf-8")
    if "--locked" in command or "--offline" in command:
        assert "error[lock-outdated]" in work.adpm(*command, status=8).err


@pytest.mark.parametrize("change", ["manifest", "lock"])
def test_a_no_op_lock_is_remembered_until_a_file_changes(work: Workplace, change: str) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    path = work.project / "adapter.yaml"
    named = re.sub(r"^base:.*\n(  .*\n)*", "base: test/tiny\n", work.read("adapter.yaml"), flags=re.MULTILINE)
    path.write_text(named, encoding="utf-8")
    work.adpm("add", "text/sst-2")
    for _ in range(3):
        assert work.adpm("lock").err == "adapter.lock is up to date\n"
    assert work.adpm("lock", "--locked").err == ""
    assert belongs(str(work.project))
    if change == "manifest":
        path.write_text(work.read("adapter.yaml").replace("text/sst-2", "text/sst-2 <2"), encoding="utf-8")
    else:
        lock = work.project / "adapter.lock"
        lock.write_text(work.read("adapter.lock").replace('"text/sst-2"\n', '"text/sst-2 <2"\n'), encoding="utf-8")
    assert "error[lock-outdated]" in work.adpm("lock", "--locked", status=8).err
    assert "error[lock-outdated]" in work.adpm("lock", "--offline", status=8).err


def test_a_changed_base_is_noticed_though_the_two_files_are_as_before(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    assert work.adpm("lock").err == "adapter.lock is up to date\n"
    make_base(work.base, seed=9)
    assert "error[lock-outdated]" in work.adpm("lock", "--locked", status=8).err


def test_two_machines_write_the_same_lock(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en"])
    work.start()
    work.adpm("add", "text/sst-2")
    other = work.root / "elsewhere" / "deep"
    other.mkdir(parents=True)
    manifest = work.read("adapter.yaml").replace("../", "../../")
    (other / "adapter.yaml").write_text(manifest, encoding="utf-8")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "home2"))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    work.adpm("-C", other, "lock")
    assert (other / "adapter.lock").read_bytes() == (work.project / "adapter.lock").read_bytes()


def test_an_install_elsewhere_fetches_what_the_lock_pins(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "home2"))
    assert "error[offline]" in work.adpm("install", "--offline", status=7).err
    assert "+ text/sst-2 1.0" in work.adpm("install").err
    assert "1 package installed" in work.adpm("install", "--offline", "--locked").err


def test_a_lock_of_another_manifest_is_noticed(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    assert "error[lock-missing]" in work.adpm("install", status=8).err
    work.adpm("add", "text/sst-2")
    path = work.project / "adapter.yaml"
    path.write_text(work.read("adapter.yaml").replace("text/sst-2", "text/sst-2 <2"), encoding="utf-8")
    for command in ("install", "lock"):
        ran = work.adpm(command, "--locked", status=8)
        assert "error[lock-outdated]" in ran.err
        assert "sst-2 asks for text/sst-2 <2; the lock has text/sst-2" in ran.err
    assert "note: adapter.lock is out of date" in work.adpm("install").err
    assert "note" not in work.adpm("install", "--frozen").err


def test_remove_takes_what_only_it_required(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en"])
    work.start()
    work.adpm("add", "text/sst-2", "--as", "sst")
    assert work.adpm("remove", "sst").err == "- lang/en 1.0\n- text/sst-2 1.0\n"
    assert json.loads(work.read("adapter.lock"))["packages"] == {}
    assert "error[alias-unknown]" in work.adpm("remove", "sst", status=5).err


def test_a_failed_add_changes_nothing(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    before = work.read("adapter.yaml")
    ran = work.adpm("add", "text/sst-2 >=3", status=3)
    assert "error[no-solution]" in ran.err
    assert "text/sst-2 >=3" in ran.err
    assert work.read("adapter.yaml") == before
    assert not (work.project / "adapter.lock").exists()


def test_an_adapter_for_another_base_is_no_candidate_and_the_reason_is_told(work: Workplace) -> None:
    wide = make_base(work.root / "wide", hidden=64, layers=4)
    sibling = make_base(work.root / "sibling", seed=7)
    work.publish("text/sst-2", "1.0", base=wide, hidden=64, layers=4)
    work.publish("text/sst-2", "1.1", base=sibling)
    work.start()
    ran = work.adpm("add", "text/sst-2", status=3)
    assert "trained for hidden size 64, 4 layers, intermediate size 128" in ran.err
    assert "trained on other weights" in ran.err
    work.publish("text/sst-2", "0.9")
    work.adpm("add", "text/sst-2")
    assert '"version": "0.9"' in work.read("adapter.lock")


def test_a_yanked_release_is_only_for_who_has_locked_it(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.publish("text/sst-2", "1.1", seed=1)
    work.start()
    work.adpm("add", "text/sst-2")
    work.adpm("yank", "text/sst-2", "1.1", "--registry", "here", "--reason", "trained on the test set")
    assert "trained on the test set" in work.adpm("info", "text/sst-2").out
    work.adpm("add", "text/sst-2 >=1.1")
    assert '"version": "1.1"' in work.read("adapter.lock")
    work.adpm("remove", "sst-2")
    work.adpm("add", "text/sst-2")
    assert '"version": "1.0"' in work.read("adapter.lock")


def test_compositions_are_checked_when_locking(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en"])
    work.start()
    manifest = work.read("adapter.yaml").replace("adapters: {}", "adapters: {sst: text/sst-2}")
    path = work.project / "adapter.yaml"
    path.write_text(manifest + "compose: {default: 'stack(lang/en, sst)'}\n", encoding="utf-8")
    work.adpm("lock")
    assert "default = stack(lang/en, sst)" in work.adpm("tree").out
    path.write_text(manifest + "compose: {default: 'stack(lang/de, sst)'}\n", encoding="utf-8")
    assert "error[composition-unknown-name]" in work.adpm("lock", status=1).err
    path.write_text(manifest + "compose: {default: 'stack(en, sst)'}\n", encoding="utf-8")
    assert "error[manifest-invalid]" in work.adpm("lock", status=1).err


def test_a_registry_that_is_not_there_is_not_taken_for_an_empty_one(work: Workplace) -> None:
    work.start()
    ran = work.adpm("add", "text/sst-2", status=5)
    assert "error[registry-not-found]" in ran.err


def test_a_lock_that_is_broken_is_refused_with_the_way_out(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    lock = work.project / "adapter.lock"
    lock.write_text(work.read("adapter.lock")[:-3], encoding="utf-8")
    ran = work.adpm("install", status=1)
    assert "error[lock-invalid]" in ran.err
    assert "remove it and run 'adpm lock'" in ran.err
    lock.unlink()
    work.adpm("lock")
    work.adpm("install", "--locked")


@pytest.mark.parametrize("command", ["install", "lock", "list", "update"])
def test_a_lock_of_a_newer_format_is_refused_by_name(work: Workplace, command: str) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    newer = work.read("adapter.lock").replace('"lock": 1', '"lock": 7').replace('"compose"', '"composed"')
    (work.project / "adapter.lock").write_text(newer, encoding="utf-8")
    ran = work.adpm(command, status=1)
    assert "error[lock-too-new]" in ran.err
    assert "it has format 7; adpm" in ran.err
    assert "reads up to format 1" in ran.err
    assert "hint: upgrade adpm" in ran.err
    assert "composed" not in ran.err
    assert work.read("adapter.lock") == newer


def test_adapters_that_can_not_act_together_are_refused_when_locking(work: Workplace) -> None:
    work.publish("text/a", "1.0")
    work.publish("text/b", "1.0", seed=1)
    low_rank = work.package("text/l", "1.0")
    config = json.loads((low_rank / "adapter_config.json").read_text(encoding="utf-8"))
    config["config"] = {"architecture": "prompt_tuning", "prompt_length": 10}
    (low_rank / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    write_safetensors(low_rank / "adapter.safetensors", {"prompt_tunings.task.prompt_embedding.weight": (10, 32)}, 1)
    work.adpm("publish", low_rank, "--registry", "../registry")
    work.start()
    manifest = work.read("adapter.yaml").replace("adapters: {}", "adapters: {a: text/a, b: text/b, l: text/l}")
    path = work.project / "adapter.yaml"
    path.write_text(manifest + "compose: {default: 'stack(a, l)', other: 'fuse(a, b)'}\n", encoding="utf-8")
    work.adpm("lock")
    path.write_text(manifest + "compose: {default: 'fuse(a, l)'}\n", encoding="utf-8")
    ran = work.adpm("lock", status=1)
    assert "error[composition-method]: compose.default can't fuse l, whose method is prompt_tuning" in ran.err
    assert "fuse" in work.read("adapter.lock")


def test_a_base_that_looks_like_a_directory_must_be_one(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the base's directory ../gone does not exist" in work.refused("base-not-found", "init", "--base", "../gone")
    monkeypatch.setenv("HOME", str(work.root))
    work.adpm("init", "--base", "~/base")
    assert work.read("adapter.yaml").startswith('base: {path: "~/base"}\n')
