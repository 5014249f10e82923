"""Streams, exit statuses, help and errors: what scripts and people rely on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adpm.cli.main import COMMANDS
from adpm.cli.output import size_text
from tests.cli.conftest import Workplace


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(work: Workplace, command: str) -> None:
    assert "Usage: adpm" in work.adpm(command, "--help").out


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["lokc"], "did you mean 'lock'?"),
        (["install", "--lokced"], "--locked"),
        (["install", "--locked", "--frozen"], ""),
    ],
)
def test_wrong_calls_are_usage_errors(work: Workplace, arguments: list[str], meant: str) -> None:
    ran = work.adpm(*arguments, status=2)
    assert ran.out == ""
    assert ran.err.startswith("error[usage]: ")
    assert meant in ran.err


def test_outside_a_project(work: Workplace) -> None:
    for command in ("lock", "install", "tree", "list"):
        ran = work.adpm(command, status=5)
        assert "error[project-not-found]" in ran.err
        assert "hint: make one with 'adpm init" in ran.err


def test_a_broken_manifest_names_all_its_faults_and_lines(work: Workplace) -> None:
    text = "base: x\nregistires: []\nadapters:\n  sst: Text/SST\n  qa: text/qa ==x\n"
    (work.project / "adapter.yaml").write_text(text, encoding="utf-8")
    err = work.adpm("lock", status=1).err
    assert "error[manifest-invalid]: adapter.yaml is not valid (3 faults)" in err
    assert "registires (line 2): unknown key; did you mean 'registries'?" in err
    assert "adapters.sst (line 4)" in err
    assert "adapters.qa (line 5)" in err


def test_json_answers_are_named_and_stable(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    for arguments, schema in (
        (["list"], "adpm.list/1"),
        (["tree"], "adpm.tree/1"),
        (["info", "text/sst-2"], "adpm.info/1"),
        (["registry", "list"], "adpm.registries/1"),
        (["verify"], "adpm.verify/1"),
        (["gc", "--dry-run"], "adpm.gc/1"),
    ):
        assert work.adpm(*arguments, "--json").json["schema"] == schema


def test_colour_only_where_it_is_wanted(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in work.adpm("lock", status=5).err
    assert "\x1b[" in work.adpm("--color", "always", "lock", status=5).err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in work.adpm("lock", status=5).err


def test_a_stream_that_knows_ascii_only_gets_ascii(work: Workplace) -> None:
    text = "base: x\nadapters: {é: 'text/sst'}\n"
    (work.project / "adapter.yaml").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "adpm", "lock"],
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PATH": "", "ADPM_HOME": str(work.root / "home")},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 1
    assert b"'\\xe9' is not an alias" in ran.stderr


def test_output_into_a_closed_pipe_is_no_crash(work: Workplace) -> None:
    work.publish("text/sst-2", "1.0")
    work.start()
    work.adpm("add", "text/sst-2")
    process = subprocess.Popen(
        [sys.executable, "-m", "adpm", "info", "text/sst-2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_info_lists_versions_newest_first(work: Workplace) -> None:
    for version in ("1.0", "1.10", "1.9"):
        work.publish("text/sst-2", version)
    work.start()
    found = work.adpm("info", "text/sst-2", "--json").json
    assert [entry["version"] for entry in found["versions"]] == ["1.10", "1.9", "1.0"]
    assert found["version"] == "1.10"
    assert work.adpm("info", "text/sst-2 <1.5", "--json").json["version"] == "1.0"
    assert "error[version-not-found]" in work.adpm("info", "text/sst-2 >5", status=5).err
    wrong = work.adpm("info", "text/sst-3", status=5)
    assert "error[package-not-found]" in wrong.err
    assert "did you mean text/sst-2?" in wrong.err


def test_quiet_says_nothing_but_errors(work: Workplace) -> None:
    work.start()
    assert work.adpm("-q", "lock").err == ""
    assert "error[" in work.adpm("-q", "tree", "extra", status=2).err


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_499, "99.5 kB"), (3_600_000, "3.6 MB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_the_version(work: Workplace) -> None:
    assert work.adpm("--version").out.startswith("adpm ")
