"""Direct sources, with real git repositories: locked, installed elsewhere, changed, refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace
from tests.making import make_adapter
from tests.registry.servers import need


def git(*arguments: str | Path, at: Path) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(
        ["git", *identity, *map(str, arguments)], cwd=at, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(work: Workplace, *, directory: str = "", tag: str = "v1", lfs: bool = False) -> Path:
    """A repository that holds an adapter, with what repositories hold beside: a script and a ``.gitignore``."""
    root = work.root / "repository"
    root.mkdir()
    git("init", "-q", "-b", "main", at=root)
    if lfs:
        git("lfs", "install", "--local", at=root)
        (root / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    make_adapter(root / directory, base=work.base)
    (root / ".gitignore").write_text("*.log\n", encoding="utf-8")
    (root / "train.py").write_text("print('hello')\n", encoding="utf-8")
    commit(root, tag)
    return root


def commit(root: Path, tag: str | None = None) -> str:
    git("add", "-A", at=root)
    git("commit", "-q", "-m", "An adapter", at=root)
    if tag is not None:
        git("tag", "-a", "-m", tag, tag, at=root)
    return git("rev-parse", "HEAD", at=root)


def locked(work: Workplace) -> Any:
    return json.loads(work.read("adapter.lock"))["packages"]


def test_a_directory_is_locked_as_it_is(work: Workplace) -> None:
    make_adapter(work.root / "mine", base=work.base, requires=["lang/en >=1"])
    work.publish("lang/en", "1.0", seed=2)
    work.start()
    work.adpm("add", "../mine")
    assert 'mine: {path: "../mine"}' in work.read("adapter.yaml")
    assert locked(work)["text/sst-2"]["source"] == {"path": "../mine"}
    assert "registry" not in locked(work)["text/sst-2"]
    assert locked(work)["lang/en"]["registry"] == "here"
    work.adpm("install", "--locked")
    work.adpm("lock", "--locked")
    assert work.adpm("list").out.split("\n")[0].split()[-1] == "../mine"


def test_a_changed_directory_is_noticed(work: Workplace) -> None:
    mine = make_adapter(work.root / "mine", base=work.base)
    work.start()
    work.adpm("add", "../mine")
    before = work.read("adapter.lock")
    make_adapter(mine, base=work.base, seed=1)
    work.refused("lock-outdated", "install", "--locked")
    assert "out of date: ../mine holds text/sst-2 1.0 with other content" in work.adpm("install").err
    work.adpm("lock")
    assert work.read("adapter.lock") != before
    work.adpm("install", "--locked")
    shutil.rmtree(mine)
    assert "there is no directory ../mine" in work.refused("lock-outdated", "install", "--locked")
    work.refused("source-not-found", "update")


def test_a_directory_on_another_machine_has_the_same_digest(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = make_adapter(work.root / "mine", base=work.base)
    work.start()
    work.adpm("add", "../mine")
    before = work.read("adapter.lock")
    monkeypatch.setenv("ADPM_HOME", str(work.root / "other home"))
    work.base.rename(work.root / "moved")
    manifest = work.read("adapter.yaml").replace("/base", "/moved")
    (work.project / "adapter.yaml").write_text(manifest, encoding="utf-8")
    work.adpm("install", "--offline")
    work.adpm("lock", "--locked")
    assert work.read("adapter.lock") == before
    make_adapter(mine, base=work.base, seed=1)
    shutil.rmtree(work.root / "other home")
    work.refused("source-changed", "install")


@pytest.mark.parametrize("revision", ["#v1", "#main", ""])
def test_a_git_repository_is_locked_by_its_commit(
    work: Workplace, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(work)
    first = git("rev-parse", "HEAD", at=root)
    work.start()
    work.adpm("add", f"git+file://{root}{revision}", "--as", "sst")
    source = locked(work)["text/sst-2"]["source"]
    assert source["commit"] == first
    assert source.get("revision", "") == revision[1:]
    assert set(locked(work)["text/sst-2"]["files"]) == {"adapter_config.json", "adapter.safetensors"}
    make_adapter(root, base=work.base, seed=1)
    second = commit(root)
    work.adpm("lock")
    assert locked(work)["text/sst-2"]["source"]["commit"] == first  # until it is updated
    monkeypatch.setenv("ADPM_HOME", str(work.root / "other home"))
    work.adpm("install", "--locked")
    work.adpm("update", "sst")
    assert locked(work)["text/sst-2"]["source"]["commit"] == (first if revision == "#v1" else second)
    work.adpm("install", "--locked")


def test_a_commit_that_is_locked_is_not_fetched_again(work: Workplace) -> None:
    root = repository(work)
    work.start()
    work.adpm("add", f"git+{root.as_uri()}#v1", "--as", "sst")
    before = locked(work)
    root.rename(work.root / "away")
    work.publish("lang/en", "1.0", seed=2)
    work.adpm("add", "lang/en")
    assert {**locked(work), **before} == locked(work)
    assert [*locked(work)] == ["lang/en", "text/sst-2"]
    work.publish("lang/en", "1.1", seed=3)
    work.adpm("update", "en")
    work.refused("git-failed", "update", "sst")


def test_a_subdirectory_and_a_commit(work: Workplace) -> None:
    root = repository(work, directory="adapters/sst")
    first = git("rev-parse", "HEAD", at=root)
    (root / "README.md").write_text("changed", encoding="utf-8")
    commit(root)
    work.start()
    value = json.dumps({"git": f"file://{root}", "revision": first, "subdirectory": "adapters/sst"})
    (work.project / "adapter.yaml").write_text(
        work.read("adapter.yaml").replace("adapters: {}", f"adapters: {{sst: {value}}}"), encoding="utf-8"
    )
    work.adpm("lock")
    assert locked(work)["text/sst-2"]["source"] == {
        "git": f"file://{root}",
        "revision": first,
        "subdirectory": "adapters/sst",
        "commit": first,
    }
    work.adpm("install", "--locked")


def test_weights_in_lfs_have_the_digest_that_they_have_everywhere(work: Workplace) -> None:
    need("git-lfs")
    root = repository(work, lfs=True)
    assert git("show", "HEAD:adapter.safetensors", at=root).startswith("version https://git-lfs")
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", f"git+file://{root}#v1", "--as", "sst")
    taken = locked(work)["text/sst-2"]
    work.adpm("remove", "sst")
    work.adpm("add", "text/sst-2", "--as", "sst")
    assert taken["files"] == locked(work)["text/sst-2"]["files"]


def test_lfs_that_brings_nothing_is_one_clear_error(work: Workplace) -> None:
    need("git-lfs")
    root = repository(work, lfs=True)
    shutil.rmtree(root / ".git" / "lfs")
    work.start()
    work.refused("git-failed", "add", f"git+file://{root}")
    assert not (work.project / "adapter.lock").exists()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("git+file:///nowhere/at/all", "git-failed"),
        ("git+file://{root}#nosuch", "revision-not-found"),
        ("git+file://{root}#" + "0" * 40, "revision-not-found"),
        ("git+http://127.0.0.1:9/x.git", "git-failed"),
        ("git+https://example.org/x.git#--upload-pack=touch", "source-invalid"),
        ("git+ssh://-oProxyCommand=touch/x.git", "source-invalid"),
        ("git+ext::sh -c touch", "source-invalid"),
        ("git+https://me:secret@example.org/x.git", "source-invalid"),
        ("hf:no-owner", "source-invalid"),
        ("../nothing-here", "source-not-found"),
    ],
)
def test_what_can_not_be_read_is_one_clear_error(work: Workplace, source: str, code: str) -> None:
    root = repository(work)
    work.start()
    before = work.read("adapter.yaml")
    assert "secret" not in work.refused(code, "add", source.replace("{root}", str(root)), "--as", "x")
    assert work.read("adapter.yaml") == before


def test_links_and_pickles_in_a_repository_are_refused(work: Workplace) -> None:
    root = repository(work)
    (root / "README.md").symlink_to("/etc/hostname")
    commit(root)
    work.start()
    assert "README.md: is a link" in work.refused("package-unpublishable", "add", f"git+file://{root}", "--as", "x")
    (root / "README.md").unlink()
    (root / "pytorch_adapter.bin").write_bytes(b"\x80\x02.")
    commit(root)
    assert "pytorch_adapter.bin: is or may be a pickle" in work.refused(
        "package-unpublishable", "add", f"git+file://{root}", "--as", "x"
    )


def plain(directory: Path, base: Path) -> Path:
    """What AdapterHub saved, and nothing of adpm's."""
    make_adapter(directory, base=base)
    (directory / "adapter.yaml").unlink()
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    (directory / "adapter_config.json").write_text(json.dumps({**config, "model_name": "test/tiny"}), encoding="utf-8")
    (directory / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# Mine\n", encoding="utf-8")
    return directory


def test_a_directory_that_nobody_described(work: Workplace) -> None:
    plain(work.root / "My Adapter", work.base)
    work.start()
    work.adpm("add", "../My Adapter", "--as", "mine")
    assert locked(work)["my-adapter"]["version"] == "0.dev0"
    assert set(locked(work)["my-adapter"]["files"]) == {"README.md", "adapter_config.json", "adapter.safetensors"}
    work.adpm("install", "--locked")


def test_a_repository_that_nobody_described_has_its_commit_as_version(work: Workplace) -> None:
    root = repository(work, directory="some")
    plain(root / "adapters" / "film.Reviews", work.base)
    head = commit(root)
    value = json.dumps({"git": f"file://{root}", "subdirectory": "adapters/film.Reviews"})
    work.start()
    (work.project / "adapter.yaml").write_text(
        work.read("adapter.yaml").replace("adapters: {}", f"adapters: {{film: {value}}}"), encoding="utf-8"
    )
    work.adpm("lock")
    assert locked(work)["film.reviews"]["version"] == f"0.dev{int(head[:12], 16)}"


def test_an_adapter_of_the_peers_is_published_in_one_command(work: Workplace) -> None:
    directory = plain(work.root / "saved", work.base)
    options: list[str | Path] = ["--registry", "../registry", "--init", "--base", work.base]
    work.adpm("publish", directory, "--name", "text/mine", "--version", "1.0", *options)
    work.start()
    assert "mit" in work.adpm("info", "text/mine").out
    work.adpm("add", "text/mine")
    assert work.run("publish", directory, "--name", "text/mine", *options).status == 2
    make_adapter(directory, base=work.base)
    assert work.run("publish", directory, "--name", "text/mine", "--version", "1.0", *options).status == 2


def test_one_package_from_two_sources_is_refused(work: Workplace) -> None:
    for name in ("one", "two"):
        make_adapter(work.root / name, base=work.base)
    work.start()
    work.adpm("add", "../one")
    before = work.read("adapter.yaml")
    work.refused("sources-differ", "add", "../two")
    assert work.read("adapter.yaml") == before


def test_a_direct_source_must_meet_what_others_require(work: Workplace) -> None:
    make_adapter(work.root / "mine", "lang/en", "1.0", base=work.base)
    work.publish("text/sst-2", "1.0", requires=["lang/en >=2"])
    work.start()
    work.adpm("add", "../mine")
    assert "../mine" in work.refused("no-solution", "add", "text/sst-2")


def test_an_update_beside_a_changed_directory_moves_no_more_than_without(work: Workplace) -> None:
    work.publish("lang/en", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en"])
    make_adapter(work.root / "mine", "team/mine", base=work.base)
    work.start()
    for what in ("lang/en", "text/sst-2", "../mine"):
        work.adpm("add", what)
    work.publish("lang/en", "2.0", seed=2)
    work.publish("text/sst-2", "1.1", requires=["lang/en <2"], seed=3)
    work.publish("text/sst-2", "2.0", requires=["lang/en >=2"], seed=4)
    make_adapter(work.root / "mine", "team/mine", "2.0", base=work.base, seed=5)
    said = work.adpm("update", "sst-2", "--dry-run").err.splitlines()
    assert said == ["~ team/mine 1.0 -> 2.0", "~ text/sst-2 1.0 -> 1.1"]
    manifest = work.read("adapter.yaml")
    (work.project / "adapter.yaml").write_text(manifest + "  also: text/other\n", encoding="utf-8")
    work.publish("text/other", "1.0", seed=6)
    assert "~ text/sst-2 1.0 -> 1.1" in work.adpm("update", "sst-2", "--dry-run").err
