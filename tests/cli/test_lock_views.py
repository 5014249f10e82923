"""Questions about a lock: outdated, why, tree --invert, diff."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.cli.conftest import Workplace
from tests.making import make_base
from tests.registry.servers import need


@pytest.fixture
def shared(work: Workplace) -> Workplace:
    """sst and nli both lead to lang/en; nli by way of text/mid."""
    work.publish("lang/en", "1.0")
    work.publish("text/mid", "1.0", requires=["lang/en >=1"])
    work.publish("text/sst-2", "1.0", requires=["lang/en >=1,<2"])
    work.publish("text/nli", "1.0", requires=["text/mid"])
    work.start()
    work.adpm("add", "text/sst-2 <2", "--as", "sst")
    work.adpm("add", "text/nli")
    return work


def test_nothing_is_outdated(shared: Workplace) -> None:
    ran = shared.adpm("outdated")
    assert (ran.out, ran.err) == ("", "every locked release is the newest there is\n")
    assert shared.adpm("outdated", "--json").json == {"schema": "adpm.outdated/1", "packages": []}


def test_outdated_tells_what_is_allowed_what_is_newest_and_who_holds_it(shared: Workplace) -> None:
    for version in ("1.1", "2.0", "2.1rc1"):
        shared.publish("text/sst-2", version, requires=["lang/en >=1,<2"])
    shared.publish("lang/en", "2.0", seed=2)
    ran = shared.adpm("outdated", status=1)
    assert [line.split("  ")[0] for line in ran.out.splitlines()] == ["lang/en", "text/sst-2"]
    en, sst = shared.adpm("outdated", "--json", status=1).json["packages"]
    assert en == {
        "package": "lang/en",
        "aliases": [],
        "locked": "1.0",
        "allowed": "1.0",
        "newest": "2.0",
        "held_by": ["text/sst-2 1.0 requires lang/en >=1,<2"],
        "yanked": None,
        "listed": True,
        "registry": "here",
    }
    assert (sst["locked"], sst["allowed"], sst["newest"]) == ("1.0", "1.1", "2.0")
    assert sst["held_by"] == ["adapter.yaml: sst: text/sst-2 <2"]
    assert sst["aliases"] == ["sst"]


def test_outdated_marks_what_was_yanked_and_what_does_not_fit_the_base(shared: Workplace) -> None:
    shared.adpm("yank", "text/nli", "1.0", "--registry", "here", "--reason", "trained on the test set")
    wide = make_base(shared.root / "wide", hidden=64, layers=4)
    shared.publish("lang/en", "1.5", base=wide, hidden=64, layers=4)
    en, nli = shared.adpm("outdated", "--json", status=1).json["packages"]
    assert (nli["package"], nli["yanked"], nli["newest"]) == ("text/nli", "trained on the test set", None)
    assert (en["allowed"], en["newest"]) == ("1.0", "1.5")
    assert en["held_by"][0].startswith("lang/en 1.5 does not fit the base: trained for hidden size 64")
    assert "locked release was yanked: trained on the test set" in shared.adpm("outdated", status=1).out


def test_outdated_where_the_registry_has_forgotten_a_package(shared: Workplace) -> None:
    shutil.rmtree(shared.root / "registry" / "packages" / "text" / "nli")
    (nli,) = shared.adpm("outdated", "--json", status=1).json["packages"]
    assert (nli["package"], nli["newest"], nli["listed"]) == ("text/nli", None, False)


def test_why(shared: Workplace) -> None:
    assert shared.adpm("why", "lang/en").out.splitlines() == [
        "nli: text/nli 1.0 -> text/mid 1.0 -> lang/en 1.0 (>=1)",
        "sst: text/sst-2 1.0 (<2) -> lang/en 1.0 (>=1,<2)",
    ]
    assert shared.adpm("why", "sst").out == "sst: text/sst-2 1.0 (<2)\n"
    chains = shared.adpm("why", "text/mid", "--json").json["chains"]
    assert [(c["alias"], [link["package"] for link in c["chain"]]) for c in chains] == [
        ("nli", ["text/nli", "text/mid"])
    ]
    ran = shared.adpm("why", "lang/eng", status=5)
    assert "error[package-not-locked]" in ran.err
    assert "did you mean 'lang/en'?" in ran.err


def test_the_inverted_tree(shared: Workplace) -> None:
    tree = """\
lang/en 1.0
|-- text/mid 1.0 requires lang/en >=1
|   `-- text/nli 1.0 requires text/mid
|       `-- nli: text/nli
`-- text/sst-2 1.0 requires lang/en >=1,<2
    `-- sst: text/sst-2 <2
"""
    assert shared.adpm("tree", "--invert").out == tree
    assert shared.adpm("tree", "--invert", "lang/en").out == tree
    assert shared.adpm("tree", "--invert", "nli").out == "text/nli 1.0\n`-- nli: text/nli\n"
    (top,) = shared.adpm("tree", "--invert", "text/mid", "--json").json["packages"]
    assert top["required_by"][0]["package"] == "text/nli"
    assert top["required_by"][0]["required_by"] == [{"alias": "nli", "requirement": "text/nli", "required_by": []}]
    assert "error[usage]" in shared.adpm("tree", "lang/en", status=2).err


def test_an_inverted_tree_with_a_cycle_ends(work: Workplace) -> None:
    work.publish("text/a", "1.0", requires=["text/b"])
    work.publish("text/b", "1.0", requires=["text/a"])
    work.start()
    work.adpm("add", "text/a", "--as", "one")
    assert "who requires it stands above" in work.adpm("tree", "--invert").out
    assert work.adpm("why", "text/b").out == "one: text/a 1.0 -> text/b 1.0\n"


def test_diff_of_two_files(shared: Workplace) -> None:
    old = shared.root / "old"
    old.mkdir()
    shutil.copy(shared.project / "adapter.lock", old)
    shared.publish("text/sst-2", "1.1", seed=5, requires=["lang/en >=1,<2"])
    shared.adpm("update", "sst")
    shared.adpm("remove", "nli")
    manifest = shared.read("adapter.yaml") + "compose: {default: sst}\n"
    (shared.project / "adapter.yaml").write_text(manifest, encoding="utf-8")
    shared.adpm("lock")
    ran = shared.adpm("diff", old, "adapter.lock")
    lines = ran.out.splitlines()
    assert lines[:2] == ["- adapters.nli: text/nli", "+ compose.default: sst"]
    assert "- text/mid 1.0" in lines
    at = lines.index("~ text/sst-2 1.0 -> 1.1")
    assert lines[at + 1].startswith("    ~ adapter.safetensors  ")
    assert "3 releases and 5 files differ" in ran.err
    value = shared.adpm("diff", old / "adapter.lock", "adapter.lock", "--json").json
    files = json.loads(shared.read("adapter.lock"))["packages"]["text/sst-2"]
    new = files["files"]["adapter.safetensors"]["size"] + files["release"]["size"] + files["card"]["size"]
    assert value["fetched"] == new
    assert [p["package"] for p in value["packages"]] == ["text/mid", "text/nli", "text/sst-2"]
    assert value["packages"][0]["after"] is None
    assert "the two locks say the same" in shared.adpm("diff", old, old).err


def test_diff_names_another_base(shared: Workplace) -> None:
    sibling = make_base(shared.root / "sibling", seed=7)
    shutil.copy(shared.project / "adapter.lock", shared.root / "old.lock")
    for name in ("lang/en", "text/mid", "text/sst-2", "text/nli"):
        shared.publish(name, "1.1", base=sibling, seed=3)
    manifest = shared.read("adapter.yaml").replace(str(shared.base), str(sibling))
    (shared.project / "adapter.yaml").write_text(manifest, encoding="utf-8")
    shared.adpm("update")
    assert "but trained on other weights" in shared.adpm("diff", "../old.lock", "adapter.lock").out


def git(work: Workplace, *arguments: str) -> None:
    need("git")
    configured = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *configured, *arguments], cwd=work.root, env=environment, check=True, capture_output=True)


def test_diff_of_revisions(shared: Workplace) -> None:
    git(shared, "init", "-q", "-b", "main")
    git(shared, "add", "project")
    git(shared, "commit", "-q", "-m", "one")
    git(shared, "tag", "v1")
    assert "the two locks say the same" in shared.adpm("diff").err
    shared.adpm("remove", "nli")
    assert "- text/nli 1.0" in shared.adpm("diff").out
    git(shared, "commit", "-q", "-a", "-m", "two")
    assert shared.adpm("diff").out == ""
    assert "- text/nli 1.0" in shared.adpm("diff", "v1", "HEAD").out
    assert "+ text/nli 1.0" in shared.adpm("diff", "HEAD", "HEAD~1").out


@pytest.mark.parametrize(
    "word",
    ["--help", "--output=owned", "-x", "--exec=touch owned", "HEAD --output=owned", "HEAD:x", "", "HEAD\n", "a\0b"],
)
def test_a_revision_is_never_an_option_of_git(shared: Workplace, word: str) -> None:
    git(shared, "init", "-q", "-b", "main")
    git(shared, "add", "project")
    git(shared, "commit", "-q", "-m", "one")
    before = sorted(shared.project.iterdir())
    if word == "":
        shared.adpm("diff", "--", word, status=0)  # the project's directory
        return
    assert "error[lock-not-found]" in shared.adpm("diff", "--", word, status=5).err
    assert sorted(shared.project.iterdir()) == before


def test_diff_without_git(shared: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shared.root))
    ran = shared.adpm("diff", status=5)
    assert "git is not installed" in ran.err
