"""The contract, kept by a directory on OpenSSH's SFTP server, and what only SFTP can get wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from adpm.errors import LoginNeededError, NetworkError, UsageError
from adpm.registry.open import open_registry
from adpm.registry.port import Registry
from adpm.testing import NAME, Pair, WriteContract
from adpm.testing.making import make
from tests.registry.servers import Sshd
from tests.registry.stores import leave_behind

_numbers = itertools.count()


@pytest.fixture
def url(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return f"sftp://{sshd.place}{tmp_path}/registry-{next(_numbers)}"


def opened(url: str, path: Path) -> Registry:
    return open_registry("store", url, path)


class TestSftp(WriteContract):
    @pytest.fixture
    def pair(self, url: str, tmp_path: Path) -> Pair:
        registry = opened(url, tmp_path)
        registry._prepare(init=True)
        return Pair(registry, registry)


def test_a_directory_is_a_registry_either_way(url: str, tmp_path: Path) -> None:
    registry = opened(url, tmp_path)
    registry.publish(make(tmp_path), init=True)
    directory = open_registry("here", f"/{url.removeprefix('sftp://').partition('/')[2]}", tmp_path)
    assert directory.versions(NAME) == registry.versions(NAME)
    directory.publish(make(tmp_path, version="2.0"))
    assert len(registry.versions(NAME)) == 2


def test_nothing_is_left_beside_what_was_written(url: str, tmp_path: Path) -> None:
    registry = opened(url, tmp_path)
    assert registry.publish(make(tmp_path), init=True).created
    assert not registry.publish(make(tmp_path)).created
    (staged,) = tmp_path.rglob(".adpm/tmp")
    assert list(staged.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_by_a_later_one(url: str, tmp_path: Path) -> None:
    opened(url, tmp_path).publish(make(tmp_path), init=True)
    (staged,) = tmp_path.rglob(".adpm/tmp")
    left = leave_behind(staged)
    opened(url, tmp_path).publish(make(tmp_path, version="2.0"))
    assert sorted(path.name for path in staged.iterdir()) == left


def test_an_unknown_host_key_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NetworkError) as caught:
        opened(url, tmp_path).versions(NAME)
    assert caught.value.code == "host-key-unknown"
    assert "ssh " in (caught.value.hint or "")


def test_without_a_key_a_login_is_needed(url: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_bytes((sshd.home / ".ssh/known_hosts").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LoginNeededError) as caught:
        opened(url, tmp_path).versions(NAME)
    assert caught.value.code == "login-needed"


def test_a_host_that_is_down(url: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        opened("sftp://127.0.0.1:9/srv/registry", tmp_path).versions(NAME)
    assert caught.value.code == "network-failed"


def test_the_user_s_ssh_config_counts(url: str, sshd: Sshd, tmp_path: Path) -> None:
    user, _, rest = url.removeprefix("sftp://").partition("@")
    address, _, path = rest.partition("/")
    host, _, port = address.partition(":")
    config = sshd.home / ".ssh/config"
    config.write_text(f"Host adapters\n  HostName {host}\n  Port {port}\n  User {user}\n", encoding="utf-8")
    try:
        registry = opened(f"sftp://adapters/{path}", tmp_path)
        assert registry.publish(make(tmp_path), init=True).created
    finally:
        config.unlink()


@pytest.mark.parametrize(
    "url",
    ["sftp://host", "sftp:///path", "sftp://me:secret@host/x", "sftp://-oX/x", "sftp://host/a/../b", "sftp://h/x?y"],
)
def test_addresses_that_are_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(url, tmp_path)
    assert caught.value.code == "url-invalid"
    assert "secret" not in f"{caught.value} {caught.value.hint}"
