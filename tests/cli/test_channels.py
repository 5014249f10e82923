"""Channels: movable names that a project follows only when it is told to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Workplace

NAME = "text/sst-2"


@pytest.fixture
def channels(work: Workplace) -> Workplace:
    """Three releases, of which ``prod`` means the first, and a project that wants ``prod``."""
    for version in ("1.0", "1.1", "1.2"):
        work.publish(NAME, version)
    work.start()
    work.adpm("channel", "set", NAME, "prod", "1.0", "--registry", "here")
    work.adpm("add", f"{NAME}@prod", "--as", "sst")
    return work


def _version(work: Workplace) -> str:
    return str(json.loads(work.read("adapter.lock"))["packages"][NAME]["version"])


def _set(work: Workplace, version: str) -> str:
    return work.adpm("channel", "set", NAME, "prod", version, "--registry", "here").err


def test_the_lock_keeps_what_the_channel_meant_and_update_follows(channels: Workplace) -> None:
    assert f'sst: "{NAME}@prod"' in channels.read("adapter.yaml")
    assert json.loads(channels.read("adapter.lock"))["adapters"]["sst"] == {"requirement": f"{NAME}@prod"}
    assert _version(channels) == "1.0"
    assert f"{NAME}@prod is 1.2 now (was 1.0)" in _set(channels, "1.2")
    channels.adpm("lock")
    channels.adpm("lock", "--locked")
    channels.publish("lang/en", "1.0")
    channels.adpm("add", "lang/en")
    assert _version(channels) == "1.0"
    assert "1.0" in channels.adpm("outdated", status=1).out
    ran = channels.adpm("update", "--dry-run", "sst")
    assert "1.0 -> 1.2" in ran.out + ran.err
    channels.adpm("update", "sst")
    assert _version(channels) == "1.2"
    _set(channels, "1.1")  # back, too
    assert "1.1" in channels.adpm("outdated", status=1).out
    channels.adpm("update")
    assert _version(channels) == "1.1"
    assert f"held by adapter.yaml: sst: {NAME}@prod" in channels.adpm("outdated", status=1).out


def test_locked_notices_another_channel(channels: Workplace) -> None:
    manifest = channels.read("adapter.yaml")
    channels.adpm("channel", "set", NAME, "beta", "1.1", "--registry", "here")
    (channels.project / "adapter.yaml").write_text(manifest.replace("@prod", "@beta"), encoding="utf-8")
    ran = channels.run("lock", "--locked")
    assert ran.status == 8
    assert f"sst asks for {NAME}@beta; the lock has {NAME}@prod" in ran.err
    channels.adpm("lock")
    assert _version(channels) == "1.1"


def test_a_mapping_may_name_the_channel(channels: Workplace) -> None:
    manifest = channels.read("adapter.yaml")
    same = manifest.replace(f'"{NAME}@prod"', f"{{package: {NAME}, channel: prod}}")
    (channels.project / "adapter.yaml").write_text(same, encoding="utf-8")
    channels.adpm("lock", "--locked")
    channels.adpm("add", f"{NAME}@prod", "--as", "two", "--registry", "here")
    assert "channel: prod, registry: here" in channels.read("adapter.yaml").replace('"', "")
    both = manifest.replace(f'"{NAME}@prod"', f"{{package: {NAME}, channel: prod, version: '>=1'}}")
    (channels.project / "adapter.yaml").write_text(both, encoding="utf-8")
    assert "'version' and 'channel'" in channels.refused("manifest-invalid", "lock")


@pytest.mark.parametrize("key", ["overrides", "package"])
def test_what_releases_require_names_no_channel(work: Workplace, key: str) -> None:
    work.start()
    rest = {
        "overrides": f"overrides: ['{NAME}@prod']\n",
        "package": f"package: {{name: a, version: '1', requires: ['{NAME}@prod']}}\n",
    }
    with (work.project / "adapter.yaml").open("a", encoding="utf-8") as manifest:
        manifest.write(rest[key])
    assert "asks for a channel" in work.refused("manifest-invalid", "lock")


def test_a_channel_that_is_not_there(channels: Workplace) -> None:
    said = channels.refused("channel-not-found", "add", f"{NAME}@prd", "--as", "two")
    assert f"did you mean {NAME}@prod?" in said
    assert "its channels are: prod" in channels.refused("channel-not-found", "info", f"{NAME}@nightly")
    channels.adpm("channel", "remove", NAME, "prod", "--registry", "here")
    channels.adpm("lock")
    channels.adpm("install")
    assert _version(channels) == "1.0"
    assert f"'adpm channel set {NAME} prod VERSION" in channels.refused("channel-not-found", "update")
    assert "had no channel" in channels.adpm("channel", "remove", NAME, "prod", "--registry", "here").err
    assert _version(channels) == "1.0"


def test_a_channel_to_a_yanked_or_missing_release(channels: Workplace) -> None:
    channels.adpm("yank", NAME, "1.0", "--registry", "here", "--reason", "trained on test data")
    assert "trained on test data" in channels.refused("channel-yanked", "update")
    channels.refused("channel-yanked", "channel", "set", NAME, "beta", "1.0", "--registry", "here")
    channels.adpm("lock")
    assert "yanked" in channels.adpm("channel", "list", NAME, "--registry", "here").out
    record = channels.root / "registry/packages" / NAME / "_channels/prod"
    record.write_text(json.dumps({"release": "sha256:" + "0" * 64}), encoding="utf-8")
    assert "sha256:0000" in channels.refused("channel-dangling", "update")
    assert "not listed" in channels.adpm("channel", "list", NAME, "--registry", "here").out
    for broken in ("", "{", '{"release": "x"}', '{"other": 1}', "[]"):
        record.write_text(broken, encoding="utf-8")
        channels.refused("registry-invalid", "update")
    assert "prod is 1.2 now" in _set(channels, "1.2")
    assert _version(channels) == "1.0"


def test_publishing_to_a_channel(work: Workplace) -> None:
    directory = work.package(NAME, "1.0")
    work.refused("channel-invalid", "publish", directory, "--registry", "../registry", "--channel", "Prod")
    assert not (work.root / "registry").exists()
    ran = work.adpm("publish", directory, "--registry", "../registry", "--init", "--channel", "beta")
    assert f"{NAME}@beta is 1.0 now" in ran.err
    work.adpm("publish", work.package(NAME, "1.1"), "--registry", "../registry", "--channel", "beta")
    listed = work.adpm("channel", "list", NAME, "--registry", "../registry", "--json").json
    assert [(entry["channel"], entry["version"]) for entry in listed["channels"]] == [("beta", "1.1")]
    work.start()
    assert "text/sst-2 1.1" in work.adpm("info", f"{NAME}@beta").out


def test_a_channel_that_goes_with_nothing_is_explained(channels: Workplace) -> None:
    channels.publish("text/mix", "1.0", requires=[f"{NAME} >=1.1"])
    said = channels.refused("no-solution", "add", "text/mix")
    assert f'adapter.yaml:5: sst: "{NAME}@prod"' in said
    assert f"your project requires {NAME}@prod (adapter.yaml:5)" in said
    assert f"{NAME}@prod means 1.0 here; 'adpm update sst' asks" in said


def test_two_branches_that_locked_a_channel(channels: Workplace) -> None:
    ours = channels.read("adapter.lock")
    _set(channels, "1.2")
    channels.adpm("update")
    theirs = channels.read("adapter.lock")
    paths = [channels.root / name for name in ("base", "ours", "theirs")]
    for path, data in zip(paths, (ours, ours, theirs), strict=True):
        Path(f"{path}.lock").write_text(data, encoding="utf-8")
    channels.adpm("merge-driver", *(f"{path}.lock" for path in paths), "adapter.lock")
    assert Path(f"{paths[1]}.lock").read_text(encoding="utf-8") == theirs
