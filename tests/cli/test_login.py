"""Logging in and out against real servers; and no secret is left anywhere."""

from __future__ import annotations

import base64
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Workplace, forget_logins
from tests.registry import oci, servers

SECRET = "s3cret-of-alice"  # noqa: S105 - of a test server
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = work.root / "private" / "credentials.json"
    monkeypatch.setenv("ADPM_CREDENTIALS", str(path))
    monkeypatch.setenv("NETRC", str(work.root / "netrc"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    return path


@pytest.fixture
def url(work: Workplace, kept: Path) -> Iterator[str]:
    """A registry with one package, behind a password; what is below /closed nobody may read."""
    work.publish("text/sst-2", "1.0.0")
    server = work.root / "server"
    server.mkdir()
    closed = "location /closed/ { deny all; }"
    with servers.nginx(
        work.root / "registry", server / "n", f"{servers.basic_auth(server, 'alice', SECRET)} {closed}"
    ) as url:
        yield url


def pipe(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def start(work: Workplace, url: str) -> None:
    work.adpm("init", "--base", work.base)
    work.adpm("registry", "add", "web", url)


def host_of(url: str) -> str:
    return url.removeprefix("http://")


def test_a_password(work: Workplace, url: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    start(work, url)
    ran = work.adpm("add", "text/sst-2", status=4)
    assert "error[login-needed]" in ran.err
    assert f"adpm login {host_of(url)}" in ran.err
    said.append(ran)
    pipe("wrong-s3cret\n", monkeypatch)
    ran = work.adpm("login", url, "--user", "alice", "--password-stdin", status=4)
    assert "does not accept the login of user 'alice'" in ran.err
    assert not kept.exists()
    said.append(ran)
    pipe(SECRET + "\n", monkeypatch)
    said.append(work.adpm("login", url, "--user", "alice", "--password-stdin"))
    said.append(work.adpm("-v", "add", "text/sst-2"))
    said.append(work.adpm("-v", "info", "text/sst-2", "--json"))
    assert "error[access-denied]" in work.adpm("info", "x", "--registry", f"{url}/closed", status=4).err
    work.adpm("registry", "add", "closed", f"{url}/closed")
    ran = work.adpm("info", "x", "--registry", "closed", status=4)
    assert "error[access-denied]" in ran.err
    assert "user 'alice'" in ran.err
    assert str(kept) in ran.err
    said.append(ran)
    work.adpm("registry", "add", "lost", f"{url}/lost")
    ran = work.adpm("info", "x", "--registry", "lost", status=5)
    assert "error[registry-not-found]" in ran.err
    assert oct(kept.stat().st_mode & 0o777) == "0o600"
    said.append(work.adpm("logout", host_of(url)))
    secrets = [word.encode() for word in (SECRET, base64.b64encode(f"alice:{SECRET}".encode()).decode())]
    for ran in said:
        assert not any(secret in (ran.out + ran.err).encode() for secret in secrets)
    for path in work.root.rglob("*"):
        if path.is_file() and path.name != "users":
            assert not any(secret in path.read_bytes() for secret in secrets), path
    forget_logins()
    work.adpm("info", "text/sst-2", status=4)
    assert "no login was kept" in work.adpm("logout", host_of(url)).err


def test_a_token(work: Workplace, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work.publish("text/sst-2", "1.0.0")
    gate = 'if ($http_authorization != "Bearer t0ken") { return 401; }'
    with servers.nginx(work.root / "registry", work.root / "n", gate) as url:
        start(work, url)
        pipe("t0ken\n", monkeypatch)
        work.adpm("login", url, "--token-stdin")
        work.adpm("info", "text/sst-2")
        assert "forgot" in work.adpm("logout", url).err
        forget_logins()
        ran = work.adpm("info", "text/sst-2", status=4)
        name = "ADPM_TOKEN_" + host_of(url).replace(".", "_").replace(":", "_")
        assert name in ran.err
        monkeypatch.setenv(name, "t0ken")
        work.adpm("info", "text/sst-2")
        assert f"note: ${name} has a login for it too" in work.adpm("logout", url).err
        monkeypatch.setenv(name, "0ld")
        forget_logins()
        assert f"put the right one into ${name}" in work.adpm("info", "text/sst-2", status=4).err


def test_an_oci_registry(work: Workplace, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(work.root / "docker"))
    with oci.docker_registry(work.root / "server", password=True) as host:
        pipe("wrong", monkeypatch)
        work.adpm("login", f"oci://{host}/team", "--user", oci.USER, "--password-stdin", status=4)
        pipe(oci.PASSWORD, monkeypatch)
        work.adpm("login", f"oci://{host}/team", "--user", oci.USER, "--password-stdin")
        work.publish("text/sst-2", "1.0.0", registry=f"oci://{host}/team")
        work.adpm("logout", host)
        ran = work.adpm("publish", work.package("text/a", "1"), "--registry", f"oci://{host}/team", status=4)
        assert f"adpm login {host}" in ran.err


def test_a_prompt_does_not_echo(work: Workplace, url: str, kept: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "adpm", "login", url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    for prompt, answer in ((b"User at", b"alice\n"), (b"Password for", SECRET.encode() + b"\n")):
        while prompt not in shown or not shown.rstrip().endswith(b":"):
            shown += os.read(ours, 1000)
        os.write(ours, answer)
    try:
        while chunk := os.read(ours, 1000):
            shown += chunk
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert process.wait() == 0, shown
    assert b"let you in" in shown
    assert SECRET.encode() not in shown
    assert SECRET.encode() in kept.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["login", "example.org"],
        ["login", "example.org", "--password-stdin"],
        ["login", "example.org", "--token-stdin", "--user", "me"],
        ["login", "example.org", "--token-stdin", "--password-stdin"],
        ["login", "https://me:s3cret@example.org", "--token-stdin"],
        ["login", "example.org/path", "--token-stdin"],
        ["login", "", "--token-stdin"],
        ["login", "s3://bucket/x", "--token-stdin"],
        ["login", "example.org", "--token-stdin"],
    ],
)
def test_calls_that_are_wrong(
    work: Workplace, kept: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe("", monkeypatch)
    ran = work.adpm(*arguments, status=2)
    assert "s3cret" not in ran.out + ran.err
    assert not kept.exists()


@pytest.mark.parametrize("url", ["https://me:s3cret@example.org/x", "https://s3cret@example.org", "s3://a:s3cret@b/c"])
def test_urls_with_secrets_are_not_written_and_not_read(work: Workplace, url: str) -> None:
    work.start()
    before = work.read("adapter.yaml")
    ran = work.adpm("registry", "add", "x", url, status=2)
    assert "adpm login" in ran.err
    assert "s3cret" not in ran.out + ran.err
    assert work.read("adapter.yaml") == before
    (work.project / "adapter.yaml").write_text(before.replace("../registry", url))
    ran = work.adpm("lock", status=1)
    assert "registries[0].url (line" in ran.err
    assert "adpm login" in ran.err
    assert "s3cret" not in ran.out + ran.err
    (work.project / "adapter.yaml").write_text(before)
    ran = work.adpm("publish", work.package("text/a", "1"), "--registry", url, status=2)
    assert "s3cret" not in ran.out + ran.err
