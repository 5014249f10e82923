"""Bare git repositories on disk, driven with ``git``, large files beside them by their sha256: what a Hub keeps."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock

LARGE = (".safetensors", ".bin", ".pt", ".h5")
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n\Z")
_WHO = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "hub"), ("EMAIL", ""))
}


@dataclass(frozen=True)
class Entry:
    """A file of a commit: ``oid`` is its git blob; of a large one ``lfs`` is the sha256, ``size`` the content's."""

    path: str
    oid: str
    size: int
    lfs: str | None
    pointer_size: int = 0


@dataclass
class Repository:
    """``id`` is ``owner/name``. ``readers`` may read what is private or gated; a gated one is visible to all."""

    id: str
    directory: Path
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    lock: RLock = field(default_factory=RLock)
    known: dict[str, list[Entry]] = field(default_factory=dict)  # the files of commits, which don't change

    @classmethod
    def create(cls, root: Path, repository: str, *, private: bool = False, commit: bool = True) -> Repository:
        made = cls(repository, root / f"{repository}.git", private)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", made.directory], check=True)
        if commit:
            made.commit({".gitattributes": ATTRIBUTES}, message="initial commit")
        return made

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    def remove(self) -> None:
        shutil.rmtree(self.directory)

    def git(self, *arguments: str, data: bytes | None = None, index: Path | None = None) -> bytes:
        environment = os.environ | _WHO | ({} if index is None else {"GIT_INDEX_FILE": str(index)})
        done = subprocess.run(
            ["git", f"--git-dir={self.directory}", *arguments],
            input=data,
            capture_output=True,
            env=environment,
            check=False,
        )
        if done.returncode != 0:
            raise LookupError(done.stderr.decode())
        return done.stdout

    def commit_of(self, revision: str) -> str:
        """The commit that a branch, tag or commit names; ``LookupError`` if there is none."""
        if revision in self.known:
            return revision
        if revision.startswith("-") or ".." in revision or ":" in revision:
            raise LookupError(revision)
        return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()

    def refs(self, kind: str) -> list[tuple[str, str]]:
        """(name, commit) of ``heads`` or ``tags``."""
        out = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname) %(*objectname)", f"refs/{kind}")
        return [(line.split()[0], line.split()[-1]) for line in out.decode().splitlines()]

    def entries(self, commit: str, prefix: str = "") -> list[Entry]:
        """All files below ``prefix``."""
        if commit not in self.known:
            self.known[commit] = self._entries(commit)
        return [entry for entry in self.known[commit] if entry.path.startswith(prefix)]

    def _entries(self, commit: str) -> list[Entry]:
        before = {entry.oid: entry for found in self.known.values() for entry in found}
        out = self.git("ls-tree", "-r", "-l", "-z", commit)
        entries = []
        for line in filter(None, out.split(b"\0")):
            facts, _, path = line.partition(b"\t")
            _, _, oid, size = facts.decode().split()
            known = before.get(oid)
            entries.append(replace(known, path=path.decode()) if known else self._entry(path.decode(), oid, int(size)))
        return entries

    def _entry(self, path: str, oid: str, size: int) -> Entry:
        pointer = _POINTER.match(self.git("cat-file", "blob", oid)) if size < 200 else None
        if pointer is None:
            return Entry(path, oid, size, None)
        return Entry(path, oid, int(pointer[2]), pointer[1].decode(), size)

    def entry(self, commit: str, path: str) -> Entry | None:
        return next((entry for entry in self.entries(commit, path) if entry.path == path), None)

    def content(self, entry: Entry) -> bytes:
        return self.git("cat-file", "blob", entry.oid) if entry.lfs is None else self.large(entry.lfs).read_bytes()

    def read(self, path: str, revision: str = "main") -> bytes:
        """For tests: the content of a file."""
        entry = self.entry(self.commit_of(revision), path)
        assert entry is not None, path
        return self.content(entry)

    def large(self, sha256: str) -> Path:
        return self.directory / "lfs" / sha256

    def put_large(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.large(sha256).parent.mkdir(exist_ok=True)
        self.large(sha256).write_bytes(data)
        return sha256

    def commit(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        pointers: Mapping[str, tuple[str, int]] | None = None,
        deleted: Iterable[str] = (),
        message: str = "change",
        branch: str = "main",
        parent: str | None = None,
    ) -> str:
        """Commit on ``branch``: small ``files``, ``pointers`` (path to sha256 and size) to large ones. A path of
        ``deleted`` that ends in ``/`` is a folder. Raises ``StaleError`` where ``parent`` is not the branch's head."""
        with self.lock:
            heads = dict(self.refs("heads"))
            head = heads.get(branch)
            if parent is not None and parent != head:
                raise StaleError(head or "")
            index = self.directory / "index.tmp"
            index.unlink(missing_ok=True)
            if head is not None:
                self.git("read-tree", head, index=index)
            contents = dict(files or {})
            for path, (sha256, size) in (pointers or {}).items():
                text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
                contents[path] = text.encode()
            lines = []
            for gone in deleted:
                paths = [entry.path for entry in self.entries(head or "", gone)] if gone.endswith("/") else [gone]
                if head is None or not paths or not all(self.entry(head, path) for path in paths):
                    raise LookupError(gone)
                lines += [f"0 {'0' * 40}\t{path}\n" for path in paths]
            oids = self._stored(list(contents.values()))
            lines += [f"100644 {oid}\t{path}\n" for oid, path in zip(oids, contents, strict=True)]
            self.git("update-index", "--index-info", data="".join(lines).encode(), index=index)
            tree = self.git("write-tree", index=index).decode().strip()
            parents = [] if head is None else ["-p", head]
            commit = self.git("commit-tree", tree, *parents, "-F", "-", data=message.encode()).decode().strip()
            self.git("update-ref", f"refs/heads/{branch}", commit, head or "0" * 40)
            return commit

    def _stored(self, contents: list[bytes]) -> list[str]:
        """The oids of new blobs, by one process."""
        with tempfile.TemporaryDirectory() as directory:
            paths = [Path(directory, str(number)) for number in range(len(contents))]
            for path, data in zip(paths, contents, strict=True):
                path.write_bytes(data)
            names = "".join(f"{path}\n" for path in paths).encode()
            return self.git("hash-object", "-w", "--no-filters", "--stdin-paths", data=names).decode().split()

    def upload(self, files: Mapping[str, bytes], *, tag: str | None = None, message: str = "upload") -> str:
        """For tests: commit files as a person would with git and git-lfs; the commit."""
        large = {path: data for path, data in files.items() if path.endswith(LARGE)}
        pointers = {path: (self.put_large(data), len(data)) for path, data in large.items()}
        small = {path: data for path, data in files.items() if path not in large}
        commit = self.commit(small, pointers=pointers, message=message)
        if tag is not None:
            self.tag(tag, commit)
        return commit

    def tag(self, name: str, commit: str, message: str | None = None) -> None:
        """Raises ``FileExistsError`` where the tag is there, ``LookupError`` where git knows no such name."""
        with self.lock:
            if name in dict(self.refs("tags")):
                raise FileExistsError(name)
            self.git("tag", *(["-m", message] if message else []), "--", name, commit)


class StaleError(Exception):
    """The head is another one than the writer thinks."""
