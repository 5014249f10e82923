"""One commit of a repository on the Hub, and the release that it is. Commits don't change: what was read is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Release
from adpm.errors import NotFoundError
from adpm.formats.oci import read_release
from adpm.formats.plain import plain_name, plain_version
from adpm.registry.hub_api import HubApi
from adpm.registry.hub_plain import MADE, Plain
from adpm.registry.hub_records import MANIFEST, RECORD, Entry, Record, read_record
from adpm.store.files import file_chunks, read_bounded

__all__ = ["Commits", "Revision", "connected"]


class Commits:
    """Threads may share it."""

    def __init__(self, api: HubApi, plain: Plain) -> None:
        self._api = api
        self._plain = plain
        self._entries: dict[tuple[str, str, PackageName, Version], Entry] = {}

    def record(self, repository: str, commit: str, path: str) -> Record | None:
        """The record at ``path``; None where the commit has none. Raises ``DocumentError`` (``registry-invalid``)."""
        there = self._api.download(repository, commit, path)
        if there is None:
            return None
        return read_record(read_bounded(there, limits.INDEX_BYTES), f"{path} of {repository} at {commit[:12]}")

    def release(self, repository: str, commit: str) -> Release | None:
        """The release that adpm put into the commit; None where it did not."""
        there = self._api.download(repository, commit, MANIFEST)
        if there is None:
            return None
        source = f"{MANIFEST} of {repository} at {commit[:12]}"
        return read_release(read_bounded(there, limits.OCI_MANIFEST_BYTES), source)

    def holds(self, repository: str, commit: str, release: Release) -> bool:
        """Whether the commit has all files of ``release``, as far as the Hub tells without sending them."""
        there = {file.path: file for file in self._api.files(repository, commit, recursive=True)}
        return all(
            file.path in there
            and there[file.path].size == file.blob.size
            and there[file.path].sha256 in {None, file.blob.digest}
            for file in release.files
        )

    def entry(self, repository: str, commit: str, name: PackageName, version: Version) -> Entry | None:
        """The release of this name and version: adpm's, else what others made; None where the commit is no adapter.

        Raises ``DocumentError`` and ``AdapterError`` for an adapter that is broken.
        """
        key = repository, commit, name, version
        if key not in self._entries:
            record = self.record(repository, commit, RECORD)
            found = None if record is None or record.name != name else record.entries.get(version)
            entry = found or self._plain.entry(repository, name, version, commit)
            if entry is None:
                return None
            self._entries[key] = replace(entry, commit=commit)
        return self._entries[key]

    def chunks(self, repository: str, entry: Entry, digest: Digest) -> Iterable[bytes]:
        """Bytes of a release by digest. Raises ``FileNotFoundError``."""
        there = self.file(repository, entry, digest)
        return [self.made(digest)] if there is None else file_chunks(there)

    def made(self, digest: Digest) -> bytes:
        """Bytes that no file of a repository holds."""
        return self._plain.made(digest)

    def file(self, repository: str, entry: Entry, digest: Digest) -> Path | None:
        """The file of the Hub's cache that holds them; None for what is made. Raises ``FileNotFoundError``."""
        if entry.paths[digest] == MADE:
            return None
        there = self._api.download(repository, entry.commit or "", entry.paths[digest])
        if there is None:
            raise FileNotFoundError(digest)
        return there

    def at(self, repository: str, revision: str | None) -> Revision:
        """The release that a branch, a tag or a commit (None: ``main``) of any repository holds now.

        One that adpm published is what it was published as. What others made gets its name from the repository, and
        its version from the commit. Raises ``NotFoundError`` (``package-not-found``, ``revision-not-found``,
        ``adapter-not-found``), and the errors of :meth:`entry`.
        """
        commit = self._api.commit_of(repository, revision or "main")
        record, release = self.record(repository, commit, RECORD), self.release(repository, commit)
        entry: Entry | None = None
        if record is not None and release is not None and self.holds(repository, commit, release):
            found = [there for there in record.entries.values() if there.listing.manifest == release.manifest]
            entry = replace(found[0], commit=commit) if found else None
        if entry is None:
            entry = self.entry(repository, commit, plain_name(repository), plain_version(commit))
        if entry is None:
            raise NotFoundError(
                "adapter-not-found",
                f"{repository} holds no adapter at {revision or 'main'}",
                cause=f"commit {commit} has no adapter_config.json at its top",
                hint="name a repository that PEFT or AdapterHub saved an adapter to",
            )
        return Revision(self, repository, commit, entry)


def connected(cache: Path | None) -> tuple[HubApi, Commits]:
    """The Hub that the library finds, and the releases in its commits; what others made is kept in ``cache``."""
    api = HubApi()
    return api, Commits(api, Plain(api, cache))


class Revision:
    """One commit of a repository as a release."""

    def __init__(self, commits: Commits, repository: str, commit: str, entry: Entry) -> None:
        self.repository = repository
        self.commit = commit
        self.listing = entry.listing
        self._commits = commits
        self._entry = entry

    def chunks(self, digest: Digest) -> Iterable[bytes]:
        """The bytes of its manifest, card or a file, **not** verified. ``NotFoundError`` (``blob-missing``)."""
        with self._holding(digest):
            return self._commits.chunks(self.repository, self._entry, digest)

    def file(self, digest: Digest) -> Path | None:
        """The file of the Hub's cache that holds them, as ``Registry.file`` has it."""
        with self._holding(digest):
            return self._commits.file(self.repository, self._entry, digest)

    @contextmanager
    def _holding(self, digest: Digest) -> Iterator[None]:
        try:
            yield
        except (KeyError, FileNotFoundError) as error:
            raise NotFoundError(
                "blob-missing",
                f"{self.repository} at {self.commit[:12]} does not hold {digest}, which it should",
                hint="ask its owner to publish that release again",
            ) from error
