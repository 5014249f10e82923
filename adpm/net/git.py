"""Reading directories of git repositories, LFS files among them, through the ``git`` command.

Nothing is checked out: no hook, filter, submodule or link of a repository has an effect here. Addresses and revisions
are checked by ``adpm.core.source`` before they come here, so none can be taken for an option; what the user's git
knows of credentials is used, but nothing is ever asked at the terminal. Errors: ``git-missing``, ``git-lfs-missing``,
``git-failed``, ``login-needed``, ``revision-not-found``, ``digest-mismatch``.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from adpm import limits
from adpm.core.source import GitSource
from adpm.errors import IntegrityError, LoginNeededError, NetworkError, NotFoundError, UsageError
from adpm.net.offline import refuse_if_offline

__all__ = ["Entry", "Tree", "fetch"]

_REF: Final = "refs/adpm/fetched"
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
_POINTER_BYTES: Final = 1024  # a larger file is no pointer: so git-lfs has it
_REFUSED: Final = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|Permission denied|error: 40[13]"
)
_NO_REVISION: Final = re.compile(
    r"couldn't find remote ref|not our ref|unadvertised object|no such ref|Remote branch .* not"
)
_OWN: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_COMMON_DIR")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree: its path below the directory that was asked for, git's mode (``100644``), id and size."""

    path: str
    mode: str
    object_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A fetched commit's directory."""

    repository: Path
    source: GitSource  # with its commit
    entries: tuple[Entry, ...]

    def write(self, entries: list[Entry], target: Path) -> None:
        """Write ``entries``, which are regular files, below ``target``; files of LFS are fetched."""
        pointers: list[tuple[Path, str, int]] = []
        arguments = ["cat-file", "--batch"]
        with _started(self.repository, arguments) as git:
            assert git.stdin is not None and git.stdout is not None  # noqa: S101, PT018 - they are pipes
            for entry in entries:
                git.stdin.write(f"{entry.object_id}\n".encode())
                git.stdin.flush()
                if git.stdout.readline().split()[1:2] != [b"blob"]:
                    raise _failed(self.source, f"{entry.path} can't be read")
                path = target / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    _copy(git.stdout, file, entry.size)
                git.stdout.read(1)
                if entry.size <= _POINTER_BYTES and (match := _POINTER.match(path.read_bytes())):
                    pointers.append((path, match[1].decode(), int(match[2])))
            git.stdin.close()
        if pointers:
            self._replace(pointers)

    def _replace(self, pointers: list[tuple[Path, str, int]]) -> None:
        """Put the files that LFS keeps in place of their pointers."""
        try:
            _run(self.repository, ["lfs", "version"], self.source)
        except NetworkError as error:
            raise UsageError(
                "git-lfs-missing",
                f"{self.source} keeps its weights with git LFS, which this machine lacks",
                cause=error.cause,
                hint="install git-lfs, then run the same command again",
            ) from None
        include = [f"--include={self.source.subdirectory}/**"] if self.source.subdirectory else []
        _run(self.repository, ["lfs", "fetch", *include, "origin", self.source.commit or ""], self.source)
        for path, oid, size in pointers:
            kept = self.repository / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            if not kept.is_file() or kept.stat().st_size != size or _sha256(kept) != oid:
                raise IntegrityError(
                    "digest-mismatch",
                    f"{self.source}: git LFS did not bring what {path.name} stands for",
                    cause=f"wanted {size} bytes with sha256:{oid}",
                    hint="ask whoever runs the server whether the file was ever pushed: 'git lfs push --all'",
                )
            kept.replace(path)


def fetch(source: GitSource, repository: Path) -> Tree:
    """Fetch one commit of ``source`` into ``repository``, a new directory: its ``commit``, else its revision."""
    if not source.url.startswith("file:"):
        refuse_if_offline(str(source))
    _run(None, ["init", "--bare", "--quiet", "--", str(repository)], source)
    _run(repository, ["remote", "add", "origin", source.url], source)
    wanted = source.commit or source.revision or "HEAD"
    try:
        _run(repository, ["fetch", "--quiet", "--depth=1", "--no-tags", "origin", f"+{wanted}:{_REF}"], source)
    except NotFoundError:
        if source.commit is None:
            raise
        everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]  # it hands out no commits by their id
        _run(repository, ["fetch", "--quiet", "--no-tags", "origin", *everything], source)
        _run(repository, ["update-ref", _REF, source.commit], source, failed=_no_revision)
    commit = _run(repository, ["rev-parse", "--verify", "--quiet", f"{_REF}^{{commit}}"], source).decode().strip()
    _run(repository, ["update-ref", "--no-deref", "HEAD", commit], source)  # where git-lfs looks for .lfsconfig
    found = GitSource(source.url, source.revision, source.subdirectory, commit)
    return Tree(repository, found, tuple(_entries(repository, found)))


def _entries(repository: Path, source: GitSource) -> Iterator[Entry]:
    directory = f":{source.subdirectory}" if source.subdirectory else ""
    listed = _run(
        repository, ["ls-tree", "-r", "-z", "--long", f"{source.commit}{directory}"], source, failed=_no_directory
    )
    for line in listed.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, object_id, size = about.decode("ascii").split()
        yield Entry(path.decode("utf-8", "replace"), mode, object_id, int(size) if size.isdigit() else 0)


def _command(repository: Path | None, arguments: list[str]) -> list[str]:
    where = [] if repository is None else [f"--git-dir={repository}"]
    stalls = [f"http.lowSpeedLimit={limits.STALL_BYTES}", f"http.lowSpeedTime={int(limits.STALL_SECONDS)}"]
    settings = ["core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false", *stalls]
    return ["git", *where, *(part for setting in settings for part in ("-c", setting)), *arguments]


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _OWN}
    ssh = f"ssh -oBatchMode=yes -oConnectTimeout={int(limits.CONNECT_TIMEOUT_SECONDS)}"
    return {
        "GIT_SSH_COMMAND": ssh,
        **inherited,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:file",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }


def _started(repository: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - an argument list, no shell
        _command(repository, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )


def _run(
    repository: Path | None,
    arguments: list[str],
    source: GitSource,
    failed: Callable[[GitSource, str], Exception] | None = None,
) -> bytes:
    """What git says on its standard output."""
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            _command(repository, arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=_environment(),
            timeout=limits.GIT_SECONDS,
        )
    except FileNotFoundError:
        raise UsageError(
            "git-missing", f"{source} can only be read with git", hint="install git, then run the same command again"
        ) from None
    except subprocess.TimeoutExpired:
        raise _failed(source, f"git did not end within {limits.GIT_SECONDS:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "replace").strip()
    raise (failed or _failed)(source, said)


def _failed(source: GitSource, said: str) -> Exception:
    if _NO_REVISION.search(said):
        return _no_revision(source, said)
    cause = "\n".join(said.splitlines()[-3:])[:1000]
    if _REFUSED.search(said):
        return LoginNeededError(
            "login-needed",
            f"{source} wants credentials, or those that git has are not enough",
            cause=cause,
            hint="let git know them (its credential helper, an ssh agent); adpm asks git and no one else",
        )
    return NetworkError(
        "git-failed",
        f"git could not read {source}",
        cause=cause,
        hint=f"check the address with 'git ls-remote {source.url}'",
    )


def _no_revision(source: GitSource, said: str) -> Exception:  # noqa: ARG001 - one of the ways to fail
    return NotFoundError(
        "revision-not-found",
        f"{source.url} has no revision {source.commit or source.revision or 'HEAD'}",
        hint=f"give a tag, a branch or a full commit; 'git ls-remote {source.url}' lists them",
    )


def _no_directory(source: GitSource, said: str) -> Exception:  # noqa: ARG001 - one of the ways to fail
    return NotFoundError(
        "source-not-found",
        f"{source} has no directory {source.subdirectory}",
        hint="correct 'subdirectory' in adapter.yaml",
    )


def _copy(stream: IO[bytes], file: IO[bytes], size: int) -> None:
    while size:
        chunk = stream.read(min(size, limits.CHUNK_BYTES))
        if not chunk:
            raise EOFError
        file.write(chunk)
        size -= len(chunk)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
