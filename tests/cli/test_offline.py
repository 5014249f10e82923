"""Offline: what is missing, and who has it."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.conftest import Workplace


@pytest.mark.parametrize("how", ["option", "variable"])
def test_what_is_missing_is_said(work: Workplace, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    work.publish("text/sst-2", "1.0.0")
    work.publish("lang/en", "1.0.0")
    work.start()
    work.adpm("add", "text/sst-2")
    work.adpm("add", "lang/en")
    options = ["--offline"] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("ADPM_OFFLINE", "1")
    assert "2 packages installed" in work.adpm("install", *options).err
    shutil.rmtree(work.root / "home")
    ran = work.adpm("install", *options, status=7)
    assert "error[offline]: 4 files of 2 packages" in ran.err
    assert "from registry here (../registry): lang/en 1.0.0 (" in ran.err
    assert "text/sst-2 1.0.0 (1 file, " in ran.err
    (work.project / "adapter.lock").unlink()
    ran = work.adpm("lock", *options, status=8)
    assert "there is no adapter.lock" in ran.err
    assert "to be asked: here (../registry)" in ran.err


def test_commands_without_the_option(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.start()
    work.publish("text/sst-2", "1.0.0")
    work.adpm("registry", "add", "far", "https://adapters.example.com/x")
    monkeypatch.setenv("ADPM_OFFLINE", "yes")
    work.adpm("info", "text/sst-2")
    for command in (["info", "text/other"], ["registry", "check", "far"]):
        ran = work.adpm(*command, status=7)
        assert "error[offline]: registry far (https://adapters.example.com/x)" in ran.err
