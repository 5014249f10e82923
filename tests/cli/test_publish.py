"""Publishing, and everything that is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Workplace
from tests.making import write_safetensors


def test_publishing_twice(work: Workplace) -> None:
    first = work.publish("text/sst-2", "1.0")
    again = work.adpm("publish", work.package("text/sst-2", "1.0"), "--registry", "../registry")
    assert again.out.strip() == first
    assert "published already" in again.err
    changed = work.package("text/sst-2", "1.0", seed=5)
    ran = work.adpm("publish", changed, "--registry", "../registry", status=1)
    assert "error[version-taken]" in ran.err


def test_a_registry_can_be_looked_at_without_a_project(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.publish("text/sst-2", "1.1")
    shown = work.adpm("info", "text/sst-2 <1.1", "--registry", "../registry", "--json").json
    assert (shown["version"], shown["registry"]) == ("1.0", "../registry")
    assert "no package text/other" in work.adpm("info", "text/other", "--registry", "../registry", status=5).err
    assert "project-not-found" in work.adpm("info", "text/sst-2", status=5).err
    work.start()
    assert work.adpm("info", "text/sst-2", "--registry", "here", "--json").json["registry"] == "here"
    assert work.adpm("info", "text/sst-2", "--registry", "../registry", "--json").json["registry"] == "../registry"


def test_a_dry_run_leaves_no_registry(work: Workplace) -> None:
    ran = work.adpm("publish", work.package("text/sst-2", "1.0"), "--registry", "../registry", "--init", "--dry-run")
    assert "would publish text/sst-2 1.0" in ran.err
    assert not (work.root / "registry").exists()


def test_a_registry_is_not_made_by_accident(work: Workplace) -> None:
    ran = work.adpm("publish", work.package("text/sst-2", "1.0"), "--registry", "../registry", status=5)
    assert "--init" in ran.err


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pytorch_adapter.bin", "pickle"),
        ("model.pt", "pickle"),
        ("modeling.py", "code"),
        ("run.sh", "code"),
        ("data.csv", "of no kind that packages hold"),
        (".hidden.json", "name that packages can't hold"),
        ("weird\x1b[31m.json", "name that packages can't hold"),
    ],
)
def test_files_that_never_enter_a_package(work: Workplace, name: str, why: str) -> None:
    directory = work.package("text/sst-2", "1.0")
    (directory / name).write_bytes(b"x")
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", status=1)
    assert "error[package-unpublishable]" in ran.err
    assert why in ran.err
    assert "\x1b" not in ran.err
    assert not (work.root / "registry").exists()


def test_links_are_refused_even_inside_the_directory(work: Workplace) -> None:
    directory = work.package("text/sst-2", "1.0")
    (directory / "copy.json").symlink_to("adapter_config.json")
    os.mkfifo(directory / "pipe.json")
    (directory / "up").symlink_to("..", target_is_directory=True)
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", status=1)
    assert "copy.json: is a symbolic link" in ran.err
    assert "up: is a symbolic link" in ran.err
    assert "pipe.json: is no regular file" in ran.err


def _weights(directory: Path, **changes: tuple[int, ...] | None) -> None:
    tensors: dict[str, tuple[int, ...]] = {}
    for i in range(2):
        prefix = f"bert.encoder.layer.{i}.output.adapters.task"
        tensors |= {f"{prefix}.adapter_down.0.weight": (2, 32), f"{prefix}.adapter_down.0.bias": (2,)}
        tensors |= {f"{prefix}.adapter_up.weight": (32, 2), f"{prefix}.adapter_up.bias": (32,)}
    for name, shape in changes.items():
        if shape is not None:
            tensors[name.replace("__", ".")] = shape
    write_safetensors(directory / "adapter.safetensors", tensors)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"bert.encoder.layer.0.output.adapters.task.adapter_up.weight": (32, 3)}, "has shape [32, 3]"),
        ({"bert.encoder.layer.0.output.adapters.task.gate.weight": (1, 32)}, "does not call for"),
        ({"bert.encoder.layer.0.output.adapters.other.adapter_up.weight": (32, 2)}, "no tensor of an adapter named"),
        ({"classifier.weight": (2, 32)}, "no tensor of an adapter named"),
    ],
)
def test_weights_that_do_not_match_their_config(work: Workplace, changes: dict[str, tuple[int, ...]], why: str) -> None:
    directory = work.package("text/sst-2", "1.0")
    _weights(directory, **changes)
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", status=1)
    assert "error[adapter-weights-invalid]" in ran.err
    assert why in ran.err


def test_missing_parts(work: Workplace) -> None:
    directory = work.package("text/sst-2", "1.0")
    (directory / "adapter.safetensors").rename(directory / "weights.safetensors")
    assert "has no adapter.safetensors" in work.adpm("publish", directory, "--registry", "./r", status=1).err
    (directory / "adapter.yaml").write_text("base: x\n", encoding="utf-8")
    assert "error[package-header-missing]" in work.adpm("publish", directory, "--registry", "./r", status=2).err
    (directory / "adapter.yaml").unlink()
    assert "error[package-header-missing]" in work.adpm("publish", directory, "--registry", "./r", status=2).err
    assert "error[not-a-directory]" in work.adpm("publish", "nowhere", "--registry", "./r", status=2).err


def test_a_base_that_is_not_here_is_said(work: Workplace) -> None:
    directory = work.package("text/sst-2", "1.0")
    text = "base: somebody/model\npackage: {name: text/sst-2, version: '1.0'}\n"
    (directory / "adapter.yaml").write_text(text, encoding="utf-8")
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", "--dry-run")
    assert "can't say which weights" in ran.err
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", "--dry-run", "--base", work.base)
    assert "can't say which weights" not in ran.err


def test_the_digest_does_not_depend_on_where_and_when(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = work.publish("text/sst-2", "1.0")
    directory = work.package("text/sst-2", "1.0")
    for path in directory.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C")
    moved = directory.rename(work.root / "moved")
    assert work.adpm("publish", moved, "--registry", "../registry").out.strip() == first


def test_a_lost_index_is_rebuilt(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.publish("text/sst-2", "1.1", seed=1)
    index = work.root / "registry" / "packages" / "text" / "sst-2" / "index.json"
    before = index.read_bytes()
    index.write_bytes(b"{}")
    work.start()
    assert "error[index-invalid]" in work.adpm("info", "text/sst-2", status=1).err
    assert "text/sst-2: 2 releases" in work.adpm("registry", "rebuild", "here").err
    assert index.read_bytes() == before
    index.unlink()
    assert "text/sst-2: 2 releases" in work.adpm("registry", "rebuild", "here", "text/sst-2").err
    assert index.read_bytes() == before
