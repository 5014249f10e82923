"""The demo, as a user runs it: on the shipped adapters, in new directories, with stores of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adpm.cli.commands.demo import MATERIAL
from tests.cli.conftest import Workplace

EXAMPLE = Path(__file__).parents[2] / "adapter.lock.example"
ACCURACY = re.compile(r"bare head +(0\.\d+)\n +adapted +(0\.\d+)")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory that one run of the demo filled, and all that it printed."""
    root = tmp_path_factory.mktemp("somebody else's home")
    done = subprocess.run(
        [sys.executable, "-m", "adpm", "demo", "here"],
        cwd=root,
        env=os.environ | {"ADPM_HOME": str(root / "home"), "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return root / "here", done.stdout


def test_the_lock_is_the_example(demo: tuple[Path, str]) -> None:
    assert (demo[0] / "project" / "adapter.lock").read_bytes() == EXAMPLE.read_bytes()


def test_both_tasks_gain(demo: tuple[Path, str]) -> None:
    found = [(float(bare), float(adapted)) for bare, adapted in ACCURACY.findall(demo[1])]
    assert len(found) == 2
    assert all(adapted > bare for bare, adapted in found)


def test_the_newest_release_of_a_package_is_ruled_out(demo: tuple[Path, str]) -> None:
    assert "text/spam 1.0.0" in demo[1]
    assert "`-- domain/reviews-and-mail 1.0.0 (>=1,<2)" in demo[1]
    releases = demo[0] / "registries" / "team" / "packages" / "text" / "spam" / "releases"
    assert sorted(path.name for path in releases.iterdir()) == ["1.0.0", "2.0.0"]


def test_no_path_of_the_machine_is_in_the_lock(demo: tuple[Path, str]) -> None:
    assert str(demo[0]) not in EXAMPLE.read_text(encoding="utf-8")
    assert "127.0.0.1" not in EXAMPLE.read_text(encoding="utf-8")


def test_a_used_directory_is_left_alone(work: Workplace) -> None:
    (work.project / "thesis.txt").write_text("x", encoding="utf-8")
    assert "error[demo-directory-used]" in work.adpm("demo", ".", status=2).err
    assert os.listdir(work.project) == ["thesis.txt"]


def test_the_material_is_small() -> None:
    assert sum(path.stat().st_size for path in MATERIAL.rglob("*") if path.is_file()) < 2_000_000
