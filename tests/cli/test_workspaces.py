"""Workspaces: several projects under one root, one resolution, one lock; what each command means in a member."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace
from tests.making import make_base


class Space:
    """``work.project`` as the root of a workspace; members are written below it."""

    def __init__(self, work: Workplace) -> None:
        self.work = work

    def root(self, members: list[str], **parts: Any) -> None:
        workspace = {"members": members, **parts.pop("workspace", {})}
        self.write(".", workspace=workspace, registries=[{"name": "here", "url": "../registry"}], **parts)

    def write(self, member: str, **parts: Any) -> None:
        directory = self.work.project / member
        directory.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in parts.items() if key != "adapters")
        adapters: Mapping[str, Any] = parts.get("adapters", {})
        text += "adapters:\n" + "".join(f"  {alias}: {json.dumps(value)}\n" for alias, value in adapters.items())
        (directory / "adapter.yaml").write_text(text if adapters else text.removesuffix("adapters:\n"))

    def lock(self) -> Any:
        return json.loads(self.work.read("adapter.lock"))

    def versions(self) -> dict[str, str]:
        return {key: package["version"] for key, package in self.lock()["packages"].items()}

    def within(self, member: str, *arguments: str, status: int = 0) -> Any:
        return self.work.adpm("-C", self.work.project / member, *arguments, status=status)


@pytest.fixture
def space(work: Workplace) -> Space:
    """Two members on one base; both use lang/en, one through what it requires."""
    for version in ("1.0", "1.1", "2.0"):
        work.publish("lang/en", version)
    work.publish("text/sst-2", "1.0", requires=["lang/en <2"])
    space = Space(work)
    space.root(["models/*"], base={"path": "../base"})
    space.write("models/en", adapters={"en": "lang/en"})
    space.write("models/sst", adapters={"sst": "text/sst-2"}, compose={"default": "stack(lang/en, sst)"})
    return space


def test_one_resolution_and_one_lock(space: Space, work: Workplace) -> None:
    assert "wrote adapter.lock" in work.adpm("lock").err
    assert space.versions() == {"lang/en:base": "1.1", "text/sst-2:base": "1.0"}
    lock = space.lock()
    assert lock["adapters"] == lock["compose"] == {}
    assert lock["members"] == {
        "models/en": {"adapters": {"en": {"base": "base", "requirement": "lang/en"}}, "base": "base", "compose": {}},
        "models/sst": {
            "adapters": {"sst": {"base": "base", "requirement": "text/sst-2"}},
            "base": "base",
            "compose": {"default": "stack(lang/en, sst)"},
        },
    }
    before = work.read("adapter.lock")
    assert "adapter.lock is up to date" in space.within("models/en", "lock").err
    assert work.read("adapter.lock") == before
    assert not (work.project / "models/en/adapter.lock").exists()


def test_a_member_sees_its_part(space: Space, work: Workplace) -> None:
    space.within("models/sst", "lock")
    assert space.within("models/en", "list").out.split()[:3] == ["en", "lang/en", "1.1"]
    assert space.within("models/sst", "tree").out.splitlines() == [
        "sst: text/sst-2 1.0",
        "`-- lang/en 1.1 (<2)",
        "default = stack(lang/en, sst)",
    ]
    assert work.adpm("tree").out.splitlines() == [
        "models/en:en: lang/en:base 1.1",
        "models/sst:sst: text/sst-2:base 1.0",
        "`-- lang/en:base 1.1 (<2)",
        "models/sst:default = stack(lang/en, sst)",
    ]
    assert space.within("models/sst", "why", "lang/en").out == "sst: text/sst-2 1.0 -> lang/en 1.1 (<2)\n"
    assert work.adpm("why", "lang/en:base").out.count("\n") == 2
    assert "is neither a locked package" in space.within("models/en", "why", "text/sst-2", status=5).err
    assert "1 package installed" in space.within("models/en", "install", "--locked").err
    assert "2 packages installed" in work.adpm("install").err
    assert "compose.default" in space.within("models/sst", "licenses", "--offline").out
    assert "models/sst:default" in work.adpm("licenses", "--offline").out
    assert space.within("models/en", "impact", "--base", str(work.base)).out == "en  lang/en 1.1  fits\n"
    assert space.within("models/sst", "outdated", status=1).out.split()[:5] == ["lang/en", "-", "1.1", "1.1", "2.0"]
    held = "models/sst/adapter.yaml: sst: text/sst-2 <1.1"
    work.publish("text/sst-2", "1.1", seed=9)
    space.write("models/sst", adapters={"sst": "text/sst-2 <1.1"}, compose={"default": "stack(lang/en, sst)"})
    work.adpm("lock")
    assert held in work.adpm("outdated", status=1).out
    space.within("models/en", "checkout", "out")
    assert (work.project / "models/en/out/en/adapter_config.json").is_file()
    assert space.within("models/en", "verify").status == 0


def test_install_chooses_members(space: Space, work: Workplace) -> None:
    work.adpm("lock")
    assert "1 package installed" in work.adpm("install", "-p", "models/en").err
    assert "2 packages installed" in space.within("models/en", "install", "--package", "sst").err
    assert "2 packages installed" in work.adpm("install").err
    refused = work.refused("member-unknown", "install", "-p", "none")
    assert "hint: its members are: models/en, models/sst" in refused


def test_conflicts_name_each_member_and_line(space: Space, work: Workplace) -> None:
    space.write("models/en", adapters={"en": "lang/en >=2"})
    ran = work.adpm("lock", status=3)
    assert 'models/en/adapter.yaml:2: en: "lang/en >=2"' in ran.err
    assert 'models/sst/adapter.yaml:3: sst: "text/sst-2"' in ran.err
    assert "no set of releases meets what the project requires on the base base" in ran.err
    assert space.within("models/sst", "lock", status=3).err == ran.err


def test_locked_compares_every_member(space: Space, work: Workplace) -> None:
    work.adpm("lock")
    space.within("models/en", "lock", "--locked")
    space.write("models/en", adapters={"en": "lang/en <1.1"})
    assert "models/en:en asks for lang/en <1.1; the lock has lang/en" in work.refused(
        "lock-outdated", "-C", work.project / "models/sst", "install", "--locked"
    )
    space.write("models/new", adapters={})
    assert "models/new is not locked as a member" in work.refused("lock-outdated", "lock", "--locked")
    assert "has no member models/new" in space.within("models/new", "list", status=8).err
    work.adpm("lock")
    assert space.versions()["lang/en:base"] == "1.0"
    assert space.within("models/new", "list").out.count("\n") <= 1


def test_editing_in_a_member(space: Space, work: Workplace) -> None:
    space.within("models/en", "lock")
    root = work.read("adapter.yaml")
    assert space.within("models/en", "add", "text/sst-2", "--as", "also").err == ""
    assert "2 packages installed" in space.within("models/en", "install", "--offline").err
    assert "also: text/sst-2" in work.read("models/en/adapter.yaml")
    assert work.read("adapter.yaml") == root
    assert [*space.lock()["members"]["models/en"]["adapters"]] == ["also", "en"]
    space.within("models/en", "remove", "also")
    assert [*space.lock()["members"]["models/en"]["adapters"]] == ["en"]
    work.adpm("remove", "models/en:en")
    assert space.lock()["members"]["models/en"]["adapters"] == {}
    assert "en: " not in work.read("models/en/adapter.yaml")
    work.refused("alias-invalid", "remove", "models/no:en")
    space.within("models/en", "add", "lang/en")
    space.within("models/en", "registry", "add", "there", "../there")
    assert "there" in work.read("adapter.yaml")
    assert "registries" not in work.read("models/en/adapter.yaml")
    assert [entry["name"] for entry in space.within("models/sst", "registry", "list", "--json").json["registries"]] == [
        "here",
        "there",
    ]
    work.adpm("add", "lang/en")
    assert "." in space.lock()["members"]
    assert "en: lang/en:base 1.1" in work.adpm("tree").out.splitlines()


def test_update_moves_what_the_member_has(space: Space, work: Workplace) -> None:
    space.write("models/sst", adapters={"sst": "text/sst-2", "fr": "lang/fr"})
    work.publish("lang/fr", "1.0")
    work.adpm("lock")
    work.publish("lang/fr", "1.1")
    work.publish("lang/en", "1.2")
    assert "lang/en:base 1.1 -> 1.2" in space.within("models/en", "update").err
    assert space.versions() == {"lang/en:base": "1.2", "lang/fr:base": "1.0", "text/sst-2:base": "1.0"}
    assert "has no adapter 'fr'" in space.within("models/en", "update", "fr", status=5).err
    assert "lang/fr:base 1.0 -> 1.1" in work.adpm("update", "models/sst:fr").err
    work.publish("lang/fr", "1.2")
    assert "lang/fr:base 1.1 -> 1.2" in space.within("models/sst", "update", "fr").err
    work.publish("lang/fr", "1.3")
    assert "lang/fr:base 1.2 -> 1.3" in work.adpm("update").err


def test_members_on_different_bases(space: Space, work: Workplace) -> None:
    wide = make_base(work.root / "wide", hidden=64, layers=4)
    work.publish("lang/en", "3.0", base=wide, hidden=64, layers=4)
    space.write("models/wide", base={"path": "../../../wide"}, adapters={"en": "lang/en"})
    work.adpm("lock")
    assert space.versions() == {"lang/en:base": "1.1", "lang/en:wide": "3.0", "text/sst-2:base": "1.0"}
    assert space.within("models/wide", "tree").out == "en: lang/en 3.0\n"
    before = work.read("adapter.lock")
    space.write("models/alike", base={"path": "../../../wide/"}, adapters={"en": "lang/en ==3.0"})
    work.adpm("lock")
    assert space.lock()["packages"] == json.loads(before)["packages"]
    space.write("models/alike", bases={"wide": {"path": "../../../base"}})
    assert space.within("models/alike", "lock").status == 0
    assert space.lock()["members"]["models/wide"]["base"] == "wide-2"
    space.write("models/wide", bases={"wide": {"path": "../../../wide"}})
    assert "models/alike/adapter.yaml and models/wide/adapter.yaml declare different bases named 'wide'" in (
        work.refused("workspace-invalid", "lock")
    )


def test_paths_are_relative_to_the_member(space: Space, work: Workplace) -> None:
    work.package("team/wip", "0.1")
    space.write("models/sst", adapters={"wip": {"path": "../../../packages/team-wip/0.1"}})
    work.adpm("lock")
    assert space.lock()["packages"]["team/wip:base"]["source"] == {"path": "../packages/team-wip/0.1"}
    space.within("models/sst", "install", "--locked")
    (work.root / "packages/team-wip/0.1/README.md").write_text("New.\n")
    assert "../packages/team-wip/0.1 holds team/wip 0.1 with other content" in (
        work.refused("lock-outdated", "-C", work.project / "models/en", "install", "--locked")
    )


def test_a_member_is_published_with_the_base_of_the_root(space: Space, work: Workplace) -> None:
    package = work.package("team/own", "1.0")
    member = work.project / "models/own"
    package.rename(member)
    space.write("models/own", package={"name": "team/own", "version": "1.0"}, adapters={"en": "lang/en"})
    assert space.within("models/own", "publish", ".", "--registry", "here").out.startswith("sha256:")
    work.adpm("lock")
    assert "1 package installed" in work.adpm("install", "-p", "team/own").err


def test_a_member_begins_without_a_base(space: Space, work: Workplace) -> None:
    (work.project / "models/new").mkdir()
    (work.project / "else").mkdir()
    space.within("models/new", "init")
    assert work.read("models/new/adapter.yaml") == "adapters: {}\n"
    space.within("models/new", "add", "lang/en")
    assert work.read("models/new/adapter.yaml") == "adapters:\n  en: lang/en\n"
    assert "Missing option '--base'" in space.within("else", "init", status=2).err
    space.root(["models/*", "nothing/*/here"], base={"path": "../base"})
    work.adpm("lock", "--locked")


def test_what_was_locked_stays_when_a_project_becomes_a_workspace_and_back(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    space = Space(work)
    alone = {"base": {"path": "../base"}, "registries": [{"name": "here", "url": "../registry"}]}
    space.write(".", **alone, adapters={"en": "lang/en"})
    work.adpm("lock")
    before = work.read("adapter.lock")
    work.publish("lang/en", "1.1")
    space.root(["models/*"], base={"path": "../base"}, adapters={"en": "lang/en"})
    space.write("models/x", adapters={"en": "lang/en >=1"})
    work.adpm("lock")
    assert space.versions() == {"lang/en:base": "1.0"}
    assert space.lock()["members"]["."]["adapters"] == {"en": {"base": "base", "requirement": "lang/en"}}
    assert work.adpm("tree").out.splitlines() == ["en: lang/en:base 1.0", "models/x:en: lang/en:base 1.0 (>=1)"]
    space.write(".", **alone, adapters={"en": "lang/en"})
    work.adpm("lock")
    assert work.read("adapter.lock") == before


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["models/en", "gone"], "the member gone has no adapter.yaml"),
        (["models/*", "models/en/*"], "the member models/en/inner lies inside the member models/en"),
        (["../other"], "workspace.members[0] (line 1): '../other' is not a pattern of directories"),
        (["models/**"], "workspace.members[0] (line 1): 'models/**' is not a pattern of directories"),
        (["/models"], "workspace.members[0] (line 1): '/models' is not a pattern of directories"),
    ],
)
def test_members_that_can_not_be(space: Space, work: Workplace, members: list[str], said: str) -> None:
    space.write("models/en/inner", adapters={"en": "lang/en"})
    space.root(members, base={"path": "../base"})
    assert said in work.adpm("lock", status=1 if "[0]" in said else 2).err


def test_what_only_the_root_may_say(space: Space, work: Workplace) -> None:
    space.write(
        "models/en",
        adapters={"en": {"package": "lang/en", "registry": "here"}},
        registries=[{"name": "mine", "url": "../x"}],
        licenses={"allow": ["MIT"]},
        workspace={"members": ["x"]},
    )
    err = work.refused("manifest-invalid", "lock")
    assert "models/en/adapter.yaml is not valid (3 faults)" in err
    for line, key in ((1, "registries"), (2, "licenses"), (3, "workspace")):
        assert f"{key} (line {line}): is for the whole workspace" in err, err
    space.write("models/en", adapters={"en": {"package": "lang/en", "registry": "here"}})
    work.adpm("lock")
    space.write("models/en", adapters={"en": {"package": "lang/en", "registry": "else"}})
    assert "no registry named 'else' is declared; declared are here" in work.refused("manifest-invalid", "lock")


def test_a_lock_of_its_own_and_no_base(space: Space, work: Workplace) -> None:
    (work.project / "models/en/adapter.lock").write_text("{}")
    assert "the member models/en has an adapter.lock of its own" in work.refused("workspace-invalid", "lock")
    (work.project / "models/en/adapter.lock").unlink()
    space.root(["models/*"])
    space.write("models/en", adapters={"en": "lang/en"}, base={"path": "../../../base"})
    assert "models/sst/adapter.yaml declares no base, but other members do" in work.refused("workspace-invalid", "lock")
    space.write("models/en", adapters={"en": "lang/en"})
    work.adpm("lock")
    assert space.versions() == {"lang/en": "1.1", "text/sst-2": "1.0"}


def test_excluded_and_foreign_projects_stand_alone(space: Space, work: Workplace) -> None:
    space.root(["models/*"], base={"path": "../base"}, workspace={"exclude": ["models/old"]})
    alone = {"registries": [{"name": "here", "url": "../../../registry"}], "adapters": {"en": "lang/en"}}
    space.write("models/old", **alone)
    space.within("models/old", "lock")
    assert "members" not in json.loads(work.read("models/old/adapter.lock"))
    work.adpm("lock")
    assert [*space.lock()["members"]] == ["models/en", "models/sst"]
    space.root(["models/*"], base={"path": "../base"})
    assert "has an adapter.lock of its own" in space.within("models/old", "lock", status=2).err


def test_a_workspace_with_groups_and_rules(space: Space, work: Workplace) -> None:
    space.root(["models/*"], base={"path": "../base"}, overrides=["lang/en ==1.0"])
    space.write("models/en", adapters={}, groups={"dev": {"en": "lang/en"}})
    work.adpm("lock")
    assert space.versions()["lang/en:base"] == "1.0"
    assert "0 packages installed" in space.within("models/en", "install").err
    assert "1 package installed" in space.within("models/en", "install", "--group", "dev").err
    assert "2 packages installed" in work.adpm("install").err
    space.root(["models/*"], base={"path": "../base"}, exclude=["lang/en"])
    assert "lang/en stands under 'exclude' in the workspace's root" in work.refused("manifest-invalid", "lock")


def test_compositions_are_the_members_own(space: Space, work: Workplace) -> None:
    space.write("models/en", adapters={"en": "lang/en"}, compose={"default": "en", "x": "stack(text/sst-2, en)"})
    err = work.refused("composition-unknown-name", "lock")
    assert "models/en/adapter.yaml: compose.x uses 'text/sst-2', which is not locked" in err
    assert "hint: names that can be used: en\n" in err


def test_git_s_merge_of_two_members_changes(space: Space, work: Workplace) -> None:
    work.adpm("lock")
    base = work.read("adapter.lock")
    space.write("models/en", adapters={"en": "lang/en <1.1"})
    work.adpm("lock")
    ours = work.read("adapter.lock")
    (work.project / "adapter.lock").write_text(base)
    space.write("models/en", adapters={"en": "lang/en"})
    space.write("models/three", adapters={"en": "lang/en"})
    work.adpm("lock")
    theirs = work.read("adapter.lock")
    files = []
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        files.append(work.root / f"{name}.lock")
        files[-1].write_text(text)
    work.adpm("merge-driver", *files)
    space.write("models/en", adapters={"en": "lang/en <1.1"})
    (work.project / "adapter.lock").write_text(files[1].read_text())
    work.adpm("lock", "--locked")
    assert [*space.lock()["members"]] == ["models/en", "models/sst", "models/three"]
    marks = f"<<<<<<< ours\n{ours}||||||| base\n{base}=======\n{theirs}>>>>>>> theirs\n"
    (work.project / "adapter.lock").write_text(marks)
    space.within("models/three", "lock", "--offline")
    assert work.read("adapter.lock") == files[1].read_text()


def test_diff_in_a_member(space: Space, work: Workplace, tmp_path: Path) -> None:
    work.adpm("lock")
    old = tmp_path / "old.lock"
    old.write_text(work.read("adapter.lock"))
    space.write("models/en", adapters={"en": "lang/en <1.1"})
    work.adpm("lock")
    ran = space.within("models/en", "diff", str(old))
    assert "~ adapters.models/en:en: lang/en for base base -> lang/en <1.1 for base base" in ran.out
    assert "~ lang/en:base 1.1 -> 1.0" in ran.out
    space.write("models/new", adapters={"en": "lang/en"})
    work.adpm("lock")
    assert "+ members.models/new: a member on base base" in work.adpm("diff", str(old)).out
