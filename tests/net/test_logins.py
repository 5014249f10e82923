"""Where logins are looked for, in which order, and that they stay secret."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adpm import limits
from adpm.errors import AdpmError, DocumentError, LoginNeededError, UsageError
from adpm.net.credentials import Login, environment_login, variable
from adpm.net.kept import kept_login, read_kept, write_kept
from adpm.net.logins import find_login
from adpm.ops.login import keep, logout

HOST = "adapters.example-site.com:8443"
NAME = "adapters.example-site.com"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "credentials.json"
    monkeypatch.setenv("ADPM_CREDENTIALS", str(path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return path


def ring(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", f"tests.net.rings.{kind}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ADPM_TEST_RING", str(tmp_path / "ring"))
    return tmp_path / "ring"


def test_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_login(HOST) is None
    (tmp_path / "netrc").write_text(f"machine {NAME} login netrc password n\n")
    assert find_login(HOST) == Login("netrc", "n")
    keep(NAME, Login("kept", "k"), keyring=False)
    assert find_login(HOST) == Login("kept", "k")
    keep(HOST, Login(None, "k2"), keyring=False)
    assert find_login(HOST) == Login(None, "k2")
    assert find_login(f"{NAME}:443") == Login("kept", "k")
    monkeypatch.setenv("ADPM_USER_ADAPTERS_EXAMPLE__SITE_COM", "ci")
    monkeypatch.setenv("ADPM_PASSWORD_ADAPTERS_EXAMPLE__SITE_COM", "p:w\n")
    assert find_login(HOST) == Login("ci", "p:w")
    monkeypatch.setenv("ADPM_TOKEN_ADAPTERS_EXAMPLE__SITE_COM_8443", "t")
    assert find_login(HOST) == Login(None, "t")
    assert find_login("other.example.com:443") is None


def test_no_two_hosts_share_a_variable() -> None:
    hosts = ["a-b.com", "a.b.com", "a--b.com", "ab.com", "a-b.com:80", "a.b.com:80", "127.0.0.1", "127.0.0.1:1"]
    assert len({variable("TOKEN", host) for host in hosts}) == len(hosts)


@pytest.mark.parametrize(
    "values",
    [
        {"ADPM_TOKEN_X": "two s3cret"},
        {"ADPM_TOKEN_X": "s3cret\r\nX: y"},
        {"ADPM_USER_X": "me"},
        {"ADPM_PASSWORD_X": "s3cret"},
        {"ADPM_USER_X": "m:e", "ADPM_PASSWORD_X": "s3cret"},
        {"ADPM_USER_X": "me", "ADPM_PASSWORD_X": "s3cret\x00"},
    ],
)
def test_variables_that_can_not_be_used(values: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Environment(dict[str, str]):
        pass

    monkeypatch.setattr("adpm.net.credentials.os.environ", Environment(values))  # a real one takes no NUL
    with pytest.raises(UsageError) as caught:
        environment_login("x:443")
    assert caught.value.code == "login-invalid"
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_the_file_is_private(kept: Path) -> None:
    keep("a", Login("me", "s3cret"), keyring=False)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    keep("b", Login(None, "other"), keyring=False)
    assert read_kept(kept) == {"a": Login("me", "s3cret"), "b": Login(None, "other")}
    assert logout("a")
    assert not logout("a")
    assert b"s3cret" not in kept.read_bytes()


def test_logins_at_once_lose_none(kept: Path) -> None:
    hosts = [f"host-{i}" for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: keep(host, Login(None, host), keyring=False), hosts))
    assert sorted(read_kept(kept)) == sorted(hosts)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o622])
def test_a_file_that_others_can_read_is_refused(kept: Path, mode: int) -> None:
    keep("a", Login("me", "s3cret"), keyring=False)
    kept.chmod(mode)
    for use in (lambda: find_login("a:443"), lambda: keep("b", Login(None, "x")), lambda: logout("a")):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.code == "credentials-exposed"
        assert f"chmod 600 {kept}" in str(caught.value.hint)
    kept.chmod(0o600)
    assert find_login("a:443") == Login("me", "s3cret")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'"s3cret"',
        b"[]",
        b'{"format": 2, "hosts": {}}',
        b'{"format": 1, "hosts": "s3cret"}',
        b'{"format": 1, "hosts": {"a": "s3cret"}}',
        b'{"format": 1, "hosts": {"a": {"user": 1}}}',
        b'{"format": 1, "hosts": {"a": {"secret": 77777, "user": "me"}}}',
        b'{"format": 1, "hosts": {"a": {"secret": "s3cret with spaces"}}}',
        b'{"format": 1, "hosts": {"a": {"keyring": "s3cret"}}}',
    ],
    ids=range(10),
)
def test_a_broken_file(kept: Path, data: bytes) -> None:
    kept.parent.mkdir()
    kept.touch(0o600)
    kept.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        find_login("a:443")
    assert caught.value.code == "credentials-invalid"
    message = f"{caught.value} {caught.value.cause} {caught.value.hint}"
    assert "s3cret" not in message
    assert "77777" not in message


def test_a_file_that_is_a_directory(kept: Path) -> None:
    kept.mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        find_login("a:443")
    assert caught.value.code == "credentials-unreadable"


def test_writing_and_reading(kept: Path) -> None:
    kept.parent.mkdir()
    kept.touch(0o600)
    logins = {"a": None, "b:1": Login("ü", "pä ss"), "c": Login(None, "t")}
    kept.write_bytes(write_kept(logins))
    assert read_kept(kept) == logins


def test_a_keyring(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ring("Working", monkeypatch, tmp_path)
    where = keep("a", Login("me", "s3cret"))
    assert where.file is None
    assert b"s3cret" not in kept.read_bytes()
    assert kept_login("a:443") == Login("me", "s3cret")
    keep("a", Login(None, "n3w"), keyring=False)
    assert "s3cret" not in file.read_text()
    keep("a", Login(None, "n3w"))
    assert logout("a")
    assert file.read_text() == "{}"
    assert kept_login("a:443") is None


def test_a_keyring_that_lost_the_login(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring("Working", monkeypatch, tmp_path).unlink(missing_ok=True)
    keep("a", Login("me", "s3cret"))
    (tmp_path / "ring").unlink()
    with pytest.raises(LoginNeededError) as caught:
        kept_login("a:443")
    assert caught.value.code == "keyring-failed"
    assert logout("a")


@pytest.mark.parametrize("kind", ["Locked", "Asking", "Silent", "Plain", "Missing"])
def test_a_keyring_that_is_of_no_use(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    ring(kind, monkeypatch, tmp_path)
    monkeypatch.setattr(limits, "HELPER_SECONDS", 1.0)
    where = keep("a", Login("me", "s3cret"))
    assert where.file == kept
    assert where.why is not None
    assert "s3cret" not in where.why
    assert kept_login("a:443") == Login("me", "s3cret")
    kept.write_bytes(write_kept({"a": None}))
    with pytest.raises(AdpmError) as caught:
        kept_login("a:443")
    assert caught.value.code == "keyring-failed"
    assert "--no-keyring" in str(caught.value.hint)
