"""Two branches that changed the lock, merged by the real git: with the merge driver, and by hand afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace
from tests.registry.servers import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _git() -> None:
    need("git")


class Repository:
    """The project of a workplace under git, with the branches ``main`` and ``other``."""

    def __init__(self, work: Workplace, style: str = "merge") -> None:
        self.work = work
        self.git("init", "-q", "-b", "main")
        for key, value in {"user.name": "x", "user.email": "x@localhost", "merge.conflictStyle": style}.items():
            self.git("config", key, value)
        self.commit("begin")
        self.git("branch", "other")

    def git(self, *arguments: str, status: int = 0) -> str:
        environment = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PYTHONPATH": str(ROOT)}
        call = ["git", *arguments]
        ran = subprocess.run(
            call, cwd=self.work.project, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == status, ran
        return ran.stdout + ran.stderr

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def drive(self) -> None:
        """Set the merge driver up, as the documentation says."""
        (self.work.project / ".gitattributes").write_text("adapter.lock merge=adpm\n", encoding="utf-8")
        self.git("config", "merge.adpm.driver", f"'{sys.executable}' -m adpm merge-driver %O %A %B %P")

    def lock(self) -> dict[str, Any]:
        return dict(json.loads(self.work.read("adapter.lock")))

    def versions(self) -> dict[str, str]:
        return {name: package["version"] for name, package in self.lock()["packages"].items()}

    def settle(self, manifest: str) -> None:
        (self.work.project / "adapter.yaml").write_text(manifest, encoding="utf-8")


@pytest.fixture
def begun(work: Workplace) -> Workplace:
    """A project with one adapter, and registry with more."""
    for name in ("lang/en", "text/mid", "text/zz"):
        work.publish(name, "1.0")
    work.publish("text/aa", "1.0", requires=["lang/en"])
    work.start()
    work.adpm("add", "text/mid")
    return work


def two_branches_that_add(repository: Repository) -> None:
    """``main`` adds text/aa, which requires lang/en, as zy; ``other`` adds text/zz: next to each other in the lock."""
    repository.git("switch", "-q", "other")
    repository.work.adpm("add", "text/zz")
    repository.commit("zz")
    repository.git("switch", "-q", "main")
    repository.work.adpm("add", "text/aa", "--as", "zy")
    repository.commit("aa")


def without_registry(work: Workplace) -> None:
    """From here on every question to the registry is an error."""
    (work.root / "registry").rename(work.root / "gone")


def both_lines(manifest: str) -> str:
    """The manifest with the lines of both sides: what a person makes of such a conflict."""
    markers = {character * 7 for character in "<|=>"}
    return "".join(line for line in manifest.splitlines(keepends=True) if line[:7] not in markers)


def test_the_driver_merges_two_branches_that_each_add_an_adapter(begun: Workplace) -> None:
    repository = Repository(begun)
    repository.drive()
    repository.commit("attributes")
    two_branches_that_add(repository)
    without_registry(begun)
    said = repository.git("merge", "other", status=1)  # adapter.yaml: both added a line at the same place
    assert "adapter.yaml" in said
    assert "Merge conflict in adapter.lock" not in said
    assert repository.versions() == {"lang/en": "1.0", "text/aa": "1.0", "text/mid": "1.0", "text/zz": "1.0"}
    assert set(repository.lock()["adapters"]) == {"mid", "zy", "zz"}
    repository.settle(both_lines(begun.read("adapter.yaml")))
    begun.adpm("lock", "--locked")
    begun.adpm("lock", "--offline")


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
def test_a_lock_with_markers_is_resolved_without_a_registry(begun: Workplace, style: str) -> None:
    repository = Repository(begun, style)
    two_branches_that_add(repository)
    assert "Merge conflict in adapter.lock" in repository.git("merge", "other", status=1)
    ran = begun.adpm("lock", status=1)
    assert "error[manifest-invalid]" in ran.err
    assert "settle adapter.yaml by hand first" in ran.err
    repository.settle(both_lines(begun.read("adapter.yaml")))
    ran = begun.adpm("install", status=1)
    assert "error[lock-invalid]" in ran.err
    assert "run 'adpm lock'" in ran.err
    without_registry(begun)
    assert begun.adpm("lock", "--offline").err == "wrote adapter.lock\n"
    assert repository.versions() == {"lang/en": "1.0", "text/aa": "1.0", "text/mid": "1.0", "text/zz": "1.0"}
    begun.adpm("lock", "--locked")


def test_the_driver_gives_the_bytes_that_locking_gives(begun: Workplace) -> None:
    repository = Repository(begun)
    two_branches_that_add(repository)
    repository.git("merge", "other", status=1)
    repository.settle(both_lines(begun.read("adapter.yaml")))
    begun.adpm("lock")
    by_hand = begun.read("adapter.lock")
    repository.git("merge", "--abort")
    repository.drive()
    repository.git("merge", "other", status=1)
    assert begun.read("adapter.lock") == by_hand


def updated_to(work: Workplace, version: str) -> None:
    work.publish("text/mid", version, seed=int(version[-1]))
    work.adpm("update")


@pytest.mark.parametrize("driver", [True, False])
def test_one_package_updated_to_two_versions_is_the_newer_one(begun: Workplace, *, driver: bool) -> None:
    repository = Repository(begun)
    if driver:
        repository.drive()
        repository.commit("attributes")
        repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    updated_to(begun, "1.1")
    repository.commit("1.1")
    repository.git("switch", "-q", "main")
    updated_to(begun, "1.2")
    repository.commit("1.2")
    repository.git("switch", "-q", "other")  # the newer one is theirs
    without_registry(begun)
    repository.git("merge", "main", status=0 if driver else 1)
    if not driver:
        begun.adpm("lock", "--offline")
    assert repository.versions() == {"text/mid": "1.2"}
    begun.adpm("lock", "--locked")


def test_an_update_of_one_side_alone_wins_even_where_it_is_older(begun: Workplace) -> None:
    updated_to(begun, "1.1")
    repository = Repository(begun, "diff3")
    repository.drive()
    repository.commit("attributes")
    repository.git("branch", "-f", "other")
    two_branches_that_add(repository)
    repository.git("switch", "-q", "other")
    begun.adpm("add", "text/mid <1.1")
    begun.adpm("add", "text/mid")
    assert repository.versions()["text/mid"] == "1.0"
    repository.commit("back to 1.0")
    repository.git("switch", "-q", "main")
    repository.git("merge", "other", status=1)
    assert repository.versions() == {"lang/en": "1.0", "text/aa": "1.0", "text/mid": "1.0", "text/zz": "1.0"}


def two_branches_that_exclude_each_other(work: Workplace) -> Repository:
    work.publish("lang/en", "2.0", seed=2)
    work.publish("text/new", "1.0", requires=["lang/en >=2"])
    work.publish("text/old", "1.0", requires=["lang/en <2"])
    repository = Repository(work)
    repository.drive()
    repository.commit("attributes")
    repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    work.adpm("add", "text/new")
    repository.commit("new")
    repository.git("switch", "-q", "main")
    work.adpm("add", "text/old")
    repository.commit("old")
    return repository


def test_what_can_not_be_merged_keeps_gits_conflict_and_says_so(begun: Workplace) -> None:
    repository = two_branches_that_exclude_each_other(begun)
    said = repository.git("merge", "other", status=1)
    assert "error[merge-conflict]" in said
    assert "text/new 1.0 requires lang/en >=2" in said or "requires lang/en >=2" in said
    assert (
        "adapter.lock keeps git's conflict: settle adapter.yaml, run 'adpm lock', then 'git add adapter.lock'" in said
    )
    assert "Merge conflict in adapter.lock" in said
    assert "<<<<<<<" in begun.read("adapter.lock")
    repository.settle(both_lines(begun.read("adapter.yaml")))
    assert "error[no-solution]" in begun.adpm("lock", status=3).err
    assert "<<<<<<<" in begun.read("adapter.lock")  # a failure loses nothing


def test_where_the_sides_do_not_go_together_the_registries_are_asked(begun: Workplace) -> None:
    repository = two_branches_that_exclude_each_other(begun)
    begun.publish("text/old", "1.1", requires=["lang/en"], seed=3)
    repository.git("merge", "other", status=1)
    repository.settle(both_lines(begun.read("adapter.yaml")))
    assert "needs the registries" in begun.adpm("lock", "--offline", status=8).err
    begun.adpm("lock")
    assert repository.versions() == {"lang/en": "2.0", "text/mid": "1.0", "text/new": "1.0", "text/old": "1.1"}


def test_one_alias_with_two_requirements_is_a_conflict_of_the_manifest(begun: Workplace) -> None:
    repository = Repository(begun)
    repository.drive()
    repository.commit("attributes")
    repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    begun.adpm("add", "text/mid <2")
    repository.commit("<2")
    repository.git("switch", "-q", "main")
    begun.adpm("add", "text/mid <3")
    repository.commit("<3")
    said = repository.git("merge", "other", status=1)
    assert "both sides of adapter.lock changed the same thing" in said
    assert "adapters.mid" in said
    assert "<<<<<<<" in begun.read("adapter.lock")


@pytest.mark.parametrize("driver", [True, False])
def test_slots_and_directories_are_merged_too(begun: Workplace, *, driver: bool) -> None:
    begun.publish("text/mid", "1.1", requires=["lang/en"], seed=1)
    begun.package("team/wip", "0.1")
    slot = "  old: {package: text/mid, version: '<1.1', slot: old}\n"
    wip = "  wip: {path: ../packages/team-wip/0.1}\n"
    path = begun.project / "adapter.yaml"
    path.write_text(begun.read("adapter.yaml") + slot + wip, encoding="utf-8")
    begun.adpm("update")
    repository = Repository(begun)
    if driver:
        repository.drive()
        repository.commit("attributes")
        repository.git("branch", "-f", "other")
    two_branches_that_add(repository)
    repository.git("merge", "other", status=1)
    repository.settle(both_lines(begun.read("adapter.yaml")))
    if not driver:
        without_registry(begun)
        begun.adpm("lock", "--offline")  # the directory is read, and holds what is locked
        (begun.root / "gone").rename(begun.root / "registry")
    wanted = {"lang/en", "team/wip", "text/aa", "text/mid", "text/mid:old", "text/zz"}
    assert set(repository.versions()) == wanted
    begun.adpm("lock", "--locked")
    assert begun.adpm("why", "old").out == "old: text/mid 1.0 (<1.1)\n"
    assert "`-- mid: text/mid\n" in begun.adpm("tree", "--invert", "text/mid").out
    assert "+ adapters.zz: text/zz" in begun.adpm("diff").out
    begun.publish("text/mid", "1.2", requires=["lang/en"], seed=2)
    mid, old = begun.adpm("outdated", "--json", status=1).json["packages"]
    assert (mid["aliases"], mid["locked"], mid["allowed"], mid["newest"]) == (["mid"], "1.1", "1.2", "1.2")
    assert (old["aliases"], old["locked"], old["allowed"], old["newest"]) == (["old"], "1.0", "1.0", "1.2")


def test_a_merge_of_lines_that_leaves_loose_ends_is_noticed(begun: Workplace) -> None:
    """Without the driver git may merge the lines of two locks that do not go together, and see no conflict."""
    begun.adpm("add", "text/aa")
    before = json.loads(begun.read("adapter.lock"))
    begun.publish("lang/en", "2.0", seed=2)
    begun.publish("text/aa", "1.1", requires=["lang/en >=2"], seed=3)
    begun.adpm("update")
    after = json.loads(begun.read("adapter.lock"))
    path = begun.project / "adapter.lock"
    after["packages"]["lang/en"] = before["packages"]["lang/en"]
    path.write_text(json.dumps(after), encoding="utf-8")
    assert "text/aa 1.1 requires lang/en >=2; the lock has 1.0" in begun.adpm("lock", "--locked", status=8).err
    begun.adpm("lock")
    begun.adpm("lock", "--locked")
    after["packages"].pop("lang/en")
    path.write_text(json.dumps(after), encoding="utf-8")
    assert "error[lock-invalid]" in begun.adpm("lock", "--locked", status=1).err
    begun.adpm("lock")
    begun.adpm("lock", "--locked")


def test_what_the_lock_says_of_a_release_is_checked_when_it_is_locked_again(begun: Workplace) -> None:
    begun.adpm("add", "text/aa")
    good = begun.read("adapter.lock")
    lock = json.loads(good)
    lock["packages"]["text/aa"]["requires"] = {"lang/en": ">=2"}
    (begun.project / "adapter.lock").write_text(json.dumps(lock), encoding="utf-8")
    begun.adpm("lock")
    assert begun.read("adapter.lock") == good


@pytest.mark.parametrize(
    "text",
    [
        "<<<<<<< a\n{}\n>>>>>>> b\n",
        "<<<<<<< a\n{}\n=======\n{}\n",
        "<<<<<<< a\n{}\n=======\n{}\n=======\n>>>>>>> b\n",
        "<<<<<<< a\n<<<<<<< a\n=======\n>>>>>>> b\n",
    ],
)
def test_markers_out_of_order_are_refused(begun: Workplace, text: str) -> None:
    (begun.project / "adapter.lock").write_text(text, encoding="utf-8")
    ran = begun.adpm("lock", status=1)
    assert "error[lock-invalid]" in ran.err
    assert "hint: bring one side back" in ran.err
    assert begun.read("adapter.lock") == text


def test_a_side_that_is_no_lock_is_named(begun: Workplace) -> None:
    text = "<<<<<<< a\n{}\n=======\n" + begun.read("adapter.lock") + ">>>>>>> b\n"
    (begun.project / "adapter.lock").write_text(text, encoding="utf-8")
    assert "adapter.lock (our side) is not valid" in begun.adpm("lock", status=1).err


def test_files_named_like_options_are_files(begun: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("--help", "-q", "--diff3"):
        (begun.project / name).write_text(begun.read("adapter.lock"), encoding="utf-8")
    begun.adpm("merge-driver", "--", "--help", "-q", "--diff3")
    assert (begun.project / "-q").read_text(encoding="utf-8") == begun.read("adapter.lock")


def scored(work: Workplace, name: str, version: str, accuracy: float, license_: str = "MIT") -> None:
    work.publish(
        name, version, metrics=[{"name": "accuracy", "value": accuracy}], license=license_, seed=int(accuracy * 100)
    )


@pytest.fixture
def chosen(begun: Workplace) -> Workplace:
    """A project that asks for a score and for licenses."""
    scored(begun, "text/sst", "1.0", 0.9)
    scored(begun, "text/ner", "1.0", 0.9)
    write_choice(begun, floor="accuracy >= 0.9", licenses=["MIT"])
    begun.adpm("lock")
    return begun


def write_choice(work: Workplace, *, floor: str, licenses: list[str], also: str | None = None) -> None:
    lines = ["base: {path: ../base}", "registries: [{name: here, url: ../registry}]"]
    lines += [f"licenses: {json.dumps({'allow': licenses})}", "adapters:"]
    lines += [f"  sst: {json.dumps({'package': 'text/sst', 'where': floor})}", *([f"  also: {also}"] if also else [])]
    (work.project / "adapter.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("driver", [True, False])
@pytest.mark.parametrize("cards", [True, False])
def test_scores_and_licenses_do_not_stand_in_the_way(chosen: Workplace, *, driver: bool, cards: bool) -> None:
    """One side raises the floor, the other adds an adapter and allows another license."""
    repository = Repository(chosen, "diff3")
    if driver:
        repository.drive()
        repository.commit("attributes")
        repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    scored(chosen, "text/ner", "1.1", 0.8, "Apache-2.0")
    write_choice(chosen, floor="accuracy >= 0.9", licenses=["Apache-2.0", "MIT"], also="text/ner")
    chosen.adpm("lock")
    repository.commit("ner")
    repository.git("switch", "-q", "main")
    scored(chosen, "text/sst", "1.1", 0.95)
    write_choice(chosen, floor="accuracy >= 0.92", licenses=["MIT"])
    chosen.adpm("lock")
    repository.commit("better")
    without_registry(chosen)
    if not cards:
        store = chosen.root / "home"
        assert store.is_dir()
        store.rename(chosen.root / "away")
    said = repository.git("merge", "other", status=1)
    assert "adapter.yaml" in said
    write_choice(chosen, floor="accuracy >= 0.92", licenses=["Apache-2.0", "MIT"], also="text/ner")
    if driver:
        assert "error[" not in said
    else:
        chosen.adpm("lock", "--offline")
    assert repository.versions() == {"text/ner": "1.1", "text/sst": "1.1"}
    chosen.adpm("lock", "--locked")


def test_a_release_that_the_merged_rules_refuse_is_not_taken(chosen: Workplace) -> None:
    """One side forbids the license of what the other side adds: only cards tell, and then only registries help."""
    repository = Repository(chosen)
    repository.drive()
    repository.commit("attributes")
    repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    scored(chosen, "text/ner", "1.1", 0.8)
    write_choice(chosen, floor="accuracy >= 0.9", licenses=["MIT"], also="text/ner")
    chosen.adpm("lock")
    repository.commit("ner")
    repository.git("switch", "-q", "main")
    scored(chosen, "text/sst", "1.1", 0.91, "ISC")
    write_choice(chosen, floor="accuracy >= 0.9", licenses=["ISC"])
    chosen.adpm("lock")
    repository.commit("isc")
    said = repository.git("merge", "other", status=1)
    assert "error[merge-conflict]" in said
    write_choice(chosen, floor="accuracy >= 0.9", licenses=["ISC"], also="text/ner")
    assert "text/ner" in chosen.refused("no-solution", "lock")
    scored(chosen, "text/ner", "1.2", 0.7, "ISC")
    chosen.adpm("lock")
    assert repository.versions() == {"text/ner": "1.2", "text/sst": "1.1"}


def test_rules_are_merged_one_by_one(chosen: Workplace) -> None:
    repository = Repository(chosen)
    repository.drive()
    repository.commit("attributes")
    repository.git("branch", "-f", "other")
    repository.git("switch", "-q", "other")
    manifest = chosen.read("adapter.yaml")
    repository.settle(manifest.replace("adapters:", "exclude: [x/y]\nadapters:"))
    chosen.adpm("lock")
    repository.commit("exclude")
    repository.git("switch", "-q", "main")
    repository.settle(manifest.replace("licenses:", "resolution: lowest\nlicenses:"))
    chosen.adpm("lock")
    repository.commit("lowest")
    said = repository.git("merge", "other", status=1)
    assert "error[merge-conflict]" in said  # each side was locked with other rules: the registries have to say
    assert "changed the same thing" not in said


def test_a_directory_that_changed_is_read_anew(begun: Workplace) -> None:
    begun.package("team/wip", "0.1")
    path = begun.project / "adapter.yaml"
    path.write_text(begun.read("adapter.yaml") + "  wip: {path: ../packages/team-wip/0.1}\n", encoding="utf-8")
    begun.adpm("lock")
    repository = Repository(begun)
    two_branches_that_add(repository)
    repository.git("merge", "other", status=1)
    repository.settle(both_lines(begun.read("adapter.yaml")))
    begun.package("team/wip", "0.2").rename(begun.root / "new")
    (begun.root / "packages/team-wip/0.1").rename(begun.root / "old")
    (begun.root / "new").rename(begun.root / "packages/team-wip/0.1")
    assert "needs the registries" in begun.adpm("lock", "--offline", status=8).err
    begun.adpm("lock")
    assert repository.versions()["team/wip"] == "0.2"
