"""One clear error for each way in which a Hub refuses or fails, with the way out, and never a word of a token."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants
from packaging.version import Version

from adpm.core.names import PackageName
from adpm.errors import AdpmError, DocumentError, LoginNeededError, NetworkError, NotFoundError, UsageError
from adpm.registry.chain import Chain, Member
from adpm.registry.hub import HubRegistry
from adpm.registry.open import open_registry
from adpm.registry.port import Registry
from adpm.testing.making import make
from tests.net.serving import unused_port
from tests.registry.hub.server import Hub

NAME = PackageName("text/sst-2")
REPOSITORY = "alice/text__sst-2"
FIRST = Version("1.0.0")


def opened(tmp_path: Path, url: str = "hf://alice") -> Registry:
    registry = open_registry("hub", url, tmp_path)
    assert isinstance(registry, HubRegistry)
    return registry


def refused(action: Callable[[], object], code: str, *words: str) -> AdpmError:
    with pytest.raises(AdpmError) as caught:
        action()
    text = f"{caught.value}\n{caught.value.hint}"
    assert caught.value.code == code, text
    assert caught.value.hint
    for word in words:
        assert word in text
    assert "hf_" not in text
    return caught.value


def test_what_is_private_looks_like_what_is_missing(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.create(REPOSITORY, private=True)
    opened(tmp_path).publish(make(tmp_path))
    assert opened(tmp_path).versions(NAME)
    for token in ("hf_bob", ""):
        monkeypatch.setenv("HF_TOKEN", token)
        for name in (NAME, PackageName("text/none")):
            error = refused(partial(opened(tmp_path).versions, name), "package-not-found")
            assert isinstance(error, NotFoundError)
            assert "HF_TOKEN" in str(error.hint)
            member = Member("hub", (), partial(opened, tmp_path))
            refused(partial(Chain([member]).find, name), "package-not-found", "HF_TOKEN")


def test_a_gated_repository(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = hub.create(REPOSITORY)
    opened(tmp_path).publish(make(tmp_path))
    repository.gated = True
    (tmp_path / "hf").rename(tmp_path / "away")
    monkeypatch.setenv("HF_TOKEN", "")
    error = refused(lambda: opened(tmp_path).versions(NAME), "login-needed", f"{hub.url}/{REPOSITORY}", "HF_TOKEN")
    assert isinstance(error, LoginNeededError)
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    error = refused(lambda: opened(tmp_path).versions(NAME), "access-denied", f"{hub.url}/{REPOSITORY}")
    assert isinstance(error, LoginNeededError)
    repository.readers.add("bob")
    assert opened(tmp_path).versions(NAME)


def test_a_wrong_token(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).publish(make(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for action in (
        lambda: opened(tmp_path).versions(NAME),
        lambda: opened(tmp_path).publish(make(tmp_path, version="2.0")),
    ):
        refused(action, "login-needed", "does not take the token")


def test_writing_where_one_may_not(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).publish(make(tmp_path))
    new = make(tmp_path, "text/new")
    for token, code in (("", "login-needed"), ("hf_bob", "access-denied"), ("hf_reader", "access-denied")):
        monkeypatch.setenv("HF_TOKEN", token)
        for action in (
            lambda: opened(tmp_path).publish(new),
            lambda: opened(tmp_path).publish(make(tmp_path, version="2.0")),
            lambda: opened(tmp_path).yank(NAME, FIRST, ""),
        ):
            refused(action, code)
    assert set(hub.repositories) == {REPOSITORY}


def test_a_limit_that_is_reached(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).publish(make(tmp_path))
    hub.fail("GET .*/refs", 429, times=2, Retry_After="0")
    assert opened(tmp_path).versions(NAME)  # a short wait is waited
    (tmp_path / "hf").rename(tmp_path / "away")
    for pattern in ("GET .*/refs", "HEAD .*/index.json"):
        before = hub.count(pattern)
        hub.fail(pattern, 429, times=9, Retry_After="3600")
        error = refused(lambda: opened(tmp_path).versions(NAME), "http-status", "3600 seconds", "HTTP 429")
        assert isinstance(error, NetworkError)
        assert error.values["status"] == 429
        assert hub.count(pattern) == before + 1
        hub.faults.clear()
    hub.fail("POST .*/commit/", 429, Retry_After="3600")
    refused(lambda: opened(tmp_path).publish(make(tmp_path, version="2.0")), "http-status", "3600 seconds")
    hub.fail("GET .*/refs", 429, times=9, Retry_After="3600")
    monkeypatch.setenv("HF_TOKEN", "")
    refused(lambda: opened(tmp_path).versions(NAME), "http-status", "with a token")


def test_a_hub_that_is_ill(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = opened(tmp_path)
    listing = registry.publish(make(tmp_path)).listing
    hub.fail("GET .*/refs", 503, times=1)
    assert registry.versions(NAME) == (listing,)
    hub.fail("GET .*/refs", 503, times=9)
    refused(lambda: registry.versions(NAME), "http-status", "could not answer")
    hub.faults.clear()
    hub.fail("GET .*/refs", 418)
    refused(lambda: registry.versions(NAME), "registry-failed", "HTTP 418")
    hub.fail("GET .*/refs", 200)
    refused(lambda: registry.versions(NAME), "registry-failed", "HF_ENDPOINT")
    for body in (b"{}", b"[]", b'{"branches":[{}],"tags":[],"converts":[]}'):
        hub.fail("GET .*/refs", 200, body=body)
        refused(lambda: registry.versions(NAME), "registry-failed", "not what a Hub says")
    away = b'{"branches":[{"name":"main","ref":"x","targetCommit":"../../x"}],"tags":[],"converts":[]}'
    hub.fail("GET .*/refs", 200, body=away)
    with pytest.raises(DocumentError) as caught:
        registry.versions(NAME)
    assert caught.value.code == "registry-invalid"
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_port()}")
    refused(lambda: opened(tmp_path).versions(NAME), "network-failed", "HF_ENDPOINT")


def test_offline_what_is_there_can_be_read(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"adapter.safetensors": b"w" * 1_500_000}
    registry = opened(tmp_path)
    listing = registry.publish(make(tmp_path, files=files)).listing
    (file,) = registry.confirmed(listing).release.files
    b"".join(registry.blob(NAME, file.blob))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(lambda: opened(tmp_path).versions(NAME), "offline", "HF_HUB_OFFLINE")
    refused(lambda: opened(tmp_path).publish(make(tmp_path, version="2.0")), "offline")
    assert b"".join(opened(tmp_path).blob(NAME, file.blob)) == files["adapter.safetensors"]


def test_addresses(tmp_path: Path) -> None:
    for url in ("hf://a/b", "hf://me:secret@x", "hf://a?b", "hf://-a", "hf://a b"):
        with pytest.raises(UsageError) as caught:
            opened(tmp_path, url)
        assert caught.value.code == "url-invalid"
        assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_missing_library_names_the_extra() -> None:
    code = """
import sys
from pathlib import Path
sys.modules["huggingface_hub"] = None
from adpm.errors import UsageError
from adpm.registry.open import open_registry
try:
    open_registry("hub", "hf://alice", Path())
except UsageError as error:
    print(error.code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "extra-missing pip install 'adpm[hub]'\n"


def test_the_library_is_imported_when_a_hub_is_opened() -> None:
    code = """
import sys
import adpm.registry.open, adpm.registry.chain, adpm.registry.hub_open, adpm.ops.lock, adpm.ops.install, adpm.cli.main
assert "huggingface_hub" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
