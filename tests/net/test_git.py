"""Repositories over HTTP with a password: Apache and git's own backend."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adpm.core.source import GitSource
from adpm.errors import LoginNeededError, NotFoundError
from adpm.net.git import fetch
from tests.net.serving import unused_port
from tests.registry.servers import need, wait_for_port

_MODULES = Path("/usr/lib/apache2/modules")
_NAMES = ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "alias", "cgid", "env"]
_BACKEND = Path("/usr/lib/git-core/git-http-backend")
_APACHE = """
ServerRoot {work}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {work}/pid
ErrorLog {work}/error.log
ScriptSock {work}/cgid.sock
{load}
{user}
SetEnv GIT_PROJECT_ROOT {work}/repositories
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_COUNT 1
SetEnv GIT_CONFIG_KEY_0 safe.directory
SetEnv GIT_CONFIG_VALUE_0 *
ScriptAlias /git/ {backend}/
<Location /git/>
  AuthType Basic
  AuthName git
  AuthUserFile {work}/users
  Require valid-user
</Location>
"""


@contextmanager
def serving() -> Iterator[tuple[str, Path]]:
    """``http://127.0.0.1:PORT/git`` and the directory of its repositories; the user is ``u``, the password ``pw``."""
    need("apache2", "openssl")
    with tempfile.TemporaryDirectory(prefix="adpm-git-http-") as directory:
        work, port = Path(directory), unused_port()
        (work / "repositories").mkdir()
        work.chmod(0o777)  # Apache gives up root's rights
        hashed = subprocess.run(["openssl", "passwd", "-apr1", "pw"], check=True, capture_output=True, text=True)
        (work / "users").write_text(f"u:{hashed.stdout.strip()}\n")
        load = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _NAMES)
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        config = work / "apache.conf"
        config.write_text(_APACHE.format(work=work, port=port, load=load, user=user, backend=_BACKEND))
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(["apache2", "-f", str(config), "-DFOREGROUND"], stdout=log, stderr=log)
            try:
                wait_for_port(port, process)
                yield f"http://127.0.0.1:{port}/git", work / "repositories"
            finally:
                process.terminate()
                process.wait()


def git(at: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The URL of a repository with two commits, and their ids."""
    with serving() as (url, repositories):
        work = tmp_path_factory.mktemp("work")
        git(work, "init", "-q", "-b", "main")
        commits = []
        for number in (1, 2):
            (work / "file.txt").write_text(f"{number}\n")
            git(work, "add", ".")
            git(work, "commit", "-q", "-m", str(number))
            commits.append(git(work, "rev-parse", "HEAD"))
        git(work, "clone", "-q", "--bare", str(work), str(repositories / "x.git"))
        yield f"{url}/x.git", commits


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As git would be by a credential helper of the user's."""
    helper = "!f() { echo username=u; echo password=pw; }; f"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "credential.helper")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", helper)


def read(source: GitSource, tmp_path: Path) -> str:
    tree = fetch(source, tmp_path / "repository")
    (tmp_path / "files").mkdir()
    tree.write(list(tree.entries), tmp_path / "files")
    return (tmp_path / "files/file.txt").read_text()


@pytest.mark.usefixtures("logged_in")
def test_what_git_knows_of_credentials_is_used(served: tuple[str, list[str]], tmp_path: Path) -> None:
    url, commits = served
    assert read(GitSource(url), tmp_path) == "2\n"
    assert fetch(GitSource(url, "main"), tmp_path / "again").source.commit == commits[1]


@pytest.mark.usefixtures("logged_in")
def test_a_commit_that_no_branch_ends_at(served: tuple[str, list[str]], tmp_path: Path) -> None:
    url, commits = served
    assert read(GitSource(url, "main", None, commits[0]), tmp_path) == "1\n"


def test_without_credentials_nobody_is_asked(served: tuple[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(LoginNeededError) as caught:
        fetch(GitSource(served[0]), tmp_path / "repository")
    assert caught.value.code == "login-needed"
    assert "credential helper" in (caught.value.hint or "")


@pytest.mark.usefixtures("logged_in")
def test_wrong_credentials_and_nothing_there(
    served: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError) as missing:
        fetch(GitSource(served[0], "nosuch"), tmp_path / "repository")
    assert missing.value.code == "revision-not-found"
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "!f() { echo username=u; echo password=secret; }; f")
    with pytest.raises(LoginNeededError) as refused:
        fetch(GitSource(served[0]), tmp_path / "other")
    assert "secret" not in f"{refused.value} {refused.value.hint}"
