"""The Hugging Face Hub as a registry: a package is a model repository, a version a git tag. See ``specs/hub.md``."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from packaging.version import InvalidVersion, Version

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Listing, Release
from adpm.errors import AdapterError, DocumentError, IntegrityError, NotFoundError, RegistryError, UsageError
from adpm.formats.card import read_card
from adpm.formats.model_card import GENERATED, LIBRARIES, write_model_card
from adpm.registry.hub_api import HubApi, Refs
from adpm.registry.hub_commits import Commits
from adpm.registry.hub_names import package_of, repository_of
from adpm.registry.hub_records import (
    CARD,
    INDEX,
    MANIFEST,
    RECORD,
    Entry,
    Record,
    entry_of,
    with_yanks,
    write_record,
)
from adpm.registry.place import Ability
from adpm.registry.port import IndexedRegistry, Publication, Published, listing_ability, source_chunks, version_taken
from adpm.store.files import file_chunks
from adpm.store.parallel import in_parallel

__all__ = ["HubRegistry"]

_README: Final = "README.md"
_INLINE_BYTES: Final = limits.CHUNK_BYTES  # smaller files are read once, and sent with the commit


@dataclass(frozen=True, slots=True)
class _State:
    """A repository as it is now: its head (None: it is empty), what its index says, the releases that its tags make."""

    repository: str
    head: str | None
    index: Record
    entries: Mapping[Version, Entry]

    @property
    def listings(self) -> tuple[Listing, ...]:
        return with_yanks(self.entries.values(), self.index.yanks)


class HubRegistry(IndexedRegistry):
    """The repositories of ``owner``, or with None those of everybody, a name's first part being the owner."""

    has_files = True  # in the Hub's own cache

    def __init__(self, name: str, address: str, api: HubApi, owner: str | None, commits: Commits) -> None:
        super().__init__(name, address)
        self._api = api
        self._owner = owner
        self._commits = commits
        self._known: dict[PackageName, _State] = {}
        self._locks: dict[PackageName, Lock] = {}
        self._lock = Lock()

    def rebuild_index(self, name: PackageName) -> tuple[Listing, ...]:
        with self._faults():
            for _ in range(limits.INDEX_TRIES):
                state = self._state(name, believe=False)
                if not state.entries:
                    raise NotFoundError("package-not-found", f"{self} has no package {name}", package=name)
                if self._written(state, state.entries, state.index.yanks, f"Index of {name}"):
                    return state.listings
                _pause()
            raise _contended(name)

    def _listings(self, name: PackageName) -> tuple[Listing, ...] | None:
        try:
            repository_of(name, self._owner)
        except UsageError as error:  # a name for another registry, which may have it
            raise NotFoundError(
                "package-not-found", f"{self} has no package {name}", cause=error.cause, hint=error.hint, package=name
            ) from error
        return self._state(name).listings or None

    def _packages(self) -> tuple[PackageName, ...] | None:
        if self._owner is None:
            return None  # nobody wants the names of all models there are
        wanted = frozenset(LIBRARIES.values())
        names = [
            package_of(repository, self._owner) for repository, tags in self._api.models(self._owner) if tags & wanted
        ]
        return tuple(sorted(name for name in names if name is not None))

    def _check(self, *, write: bool) -> Iterator[Ability]:  # noqa: ARG002 - a repository can't be made, tried and removed unseen
        yield from self._api.check(self._owner)
        yield listing_ability(self._packages())

    def _release_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        return self._blob_chunks(name, blob)

    def _blob_chunks(self, name: PackageName, blob: Blob) -> Generator[bytes]:
        there = self._file(name, blob)
        yield from [self._commits.made(blob.digest)] if there is None else file_chunks(there)

    def _file(self, name: PackageName, blob: Blob) -> Path | None:
        repository = repository_of(name, self._owner)
        cached = self._api.cached(repository, blob.digest.hex, blob.size)
        return cached or self._commits.file(repository, self._holder(name, blob.digest), blob.digest)

    def _prepare(self, *, init: bool) -> None:
        """Nothing: repositories appear when they are written to, and the Hub tells who may do that."""

    def _releases(self, name: PackageName, version: Version) -> tuple[Digest, ...]:
        state = self._state_if_any(name)
        entry = None if state is None else state.entries.get(version)
        return () if entry is None else (entry.listing.manifest.digest,)

    def _add(self, listing: Listing, release: Release, publication: Publication) -> Published:
        name, version = listing.name, listing.version
        for _ in range(limits.INDEX_TRIES):
            state = self._state_if_any(name) or self._created(name)
            found = next((there for there in state.listings if there.version == version), None)
            if found is not None and found.manifest == listing.manifest:
                return Published(found, created=False)
            if found is not None:
                raise version_taken(self, listing, found.manifest.digest)
            commit, ours = self._committed(state, listing, release, publication)
            if commit is not None and self._api.tag(state.repository, str(version), commit):
                return Published(with_yanks([ours], state.index.yanks)[0], created=True)
            _pause()
        raise _contended(name)

    def _yank(self, listing: Listing, reason: str) -> bool:
        key = listing.version, listing.manifest.digest
        for _ in range(limits.INDEX_TRIES):
            state = self._state(listing.name)
            if key in state.index.yanks:
                return False
            yanks = {**state.index.yanks, key: reason}
            if self._written(state, state.entries, yanks, f"Yank {listing.name} {listing.version}"):
                return True
            _pause()
        raise _contended(listing.name)

    # Reading

    def _state(self, name: PackageName, *, believe: bool = True) -> _State:
        """The repository now. Cost: one request, two more for each document that is new.

        A tag makes a release. What the index says of it counts where it names the tag's commit, or was written with it;
        else (and without ``believe``) the tag's own record is read. Raises ``NotFoundError`` (``package-not-found``).
        """
        repository = repository_of(name, self._owner)
        refs = self._api.refs(repository)
        if refs.head is None:
            return _State(repository, None, Record(name), {})
        index = self._index(repository, refs.head, name)
        found: dict[Version, Entry] = {}
        wanted: list[tuple[Version, str]] = []
        for version, commit in _versions(refs).items():
            entry = index.entries.get(version) if believe else None
            if entry is not None and (entry.commit or refs.head) == commit:
                found[version] = replace(entry, commit=commit)
            else:
                wanted.append((version, commit))

        def read(item: tuple[Version, str]) -> None:
            entry = self._entry(repository, name, *item)
            if entry is not None:
                found[item[0]] = entry

        in_parallel(read, wanted, threads=limits.CONNECTIONS)
        state = _State(repository, refs.head, index, dict(sorted(found.items())))
        self._known[name] = state
        return state

    def _state_if_any(self, name: PackageName) -> _State | None:
        """As ``_state``; None where there is no repository, or none that is shown."""
        repository = repository_of(name, self._owner)
        try:
            return self._state(name)
        except NotFoundError as error:
            if error.code != "package-not-found" or error.values.get("repository") != repository:
                raise
            return None

    def _entry(self, repository: str, name: PackageName, version: Version, commit: str) -> Entry | None:
        """The release of a tag; None where that is no adapter, or a broken one: people tag all kinds of things."""
        try:
            return self._commits.entry(repository, commit, name, version)
        except (DocumentError, AdapterError):
            return None

    def _index(self, repository: str, head: str, name: PackageName) -> Record:
        index = self._commits.record(repository, head, INDEX) or Record(name)
        if index.name != name:
            raise NotFoundError(
                "package-not-found",
                f"{self} has no package {name}",
                cause=f"the repository {repository} holds the package {index.name}",
                hint="a package is read by the kind of address that it was published to: hf:// or hf://OWNER",
                package=name,
            )
        return index

    def _holder(self, name: PackageName, digest: Digest) -> Entry:
        """The release that has these bytes. ``FileNotFoundError`` where none has."""
        with self._lock:
            lock = self._locks.setdefault(name, Lock())
        with lock:
            entry = _with(self._known.get(name), digest) or _with(self._state(name), digest)  # it may be old
        if entry is None:
            raise FileNotFoundError(digest)
        return entry

    # Writing

    def _created(self, name: PackageName) -> _State:
        self._api.create(repository_of(name, self._owner))
        return self._state(name)

    def _committed(
        self, state: _State, listing: Listing, release: Release, publication: Publication
    ) -> tuple[str | None, Entry]:
        """One commit that makes the release the content of main; None where main has moved. And the release's entry."""
        before = None if state.head is None else self._commits.release(state.repository, state.head)
        last = state.index.entries.get(listing.version)
        if (
            state.head is not None
            and last is not None
            and last.listing.manifest == listing.manifest == (before and before.manifest)
            and self._commits.holds(state.repository, state.head, release)
        ):
            return state.head, replace(last, commit=state.head)  # a publisher ended between the commit and its tag
        ours = entry_of(listing, release)
        index = Record(listing.name, {**_published(state.entries), listing.version: ours}, state.index.yanks)
        documents = {
            MANIFEST: publication.manifest,
            CARD: publication.card,
            RECORD: write_record(Record(listing.name, {listing.version: ours})),
            INDEX: write_record(index),
        }
        paths = {file.path for file in release.files}
        if _README not in paths and self._readme_is_ours(state):
            documents[_README] = write_model_card(read_card(publication.card, "the card to publish"), state.repository)
        gone = self._left_over(state, before) - paths - documents.keys()
        with ExitStack() as stack:
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                _addition(file.path, publication.sources[file.blob.digest], file.blob, stack) for file in release.files
            ]
            operations += [CommitOperationAdd(path, data) for path, data in documents.items()]
            operations += [CommitOperationDelete(path) for path in sorted(gone)]
            commit = self._api.commit(state.repository, state.head, operations, f"Release {listing.version}")
        return commit, replace(ours, commit=commit)

    def _left_over(self, state: _State, before: Release | None) -> set[str]:
        """The files at the head that the release there brought."""
        if before is None or state.head is None:
            return set()
        there = {file.path for file in self._api.files(state.repository, state.head, recursive=True)}
        return {file.path for file in before.files} & there

    def _readme_is_ours(self, state: _State) -> bool:
        """Whether the model card may be written: there is none, or the one that is there was written by adpm."""
        there = None if state.head is None else self._api.download(state.repository, state.head, _README)
        return there is None or GENERATED.encode() in there.read_bytes()

    def _written(
        self, state: _State, entries: Mapping[Version, Entry], yanks: Mapping[tuple[Version, Digest], str], title: str
    ) -> bool:
        """Replace the index; False where main has moved."""
        data = write_record(Record(state.index.name, _published(entries), yanks))
        operation = CommitOperationAdd(INDEX, data)
        return self._api.commit(state.repository, state.head, [operation], title) is not None


def _versions(refs: Refs) -> dict[Version, str]:
    """The commits of the tags that are versions; of two spellings of one the canonical counts."""
    out: dict[Version, str] = {}
    for tag, commit in sorted(refs.tags.items()):
        try:
            version = Version(tag) if len(tag) <= limits.VERSION_CHARACTERS else None
        except InvalidVersion:
            continue
        if version is not None and version.local is None and (version not in out or str(version) == tag):
            out[version] = commit
    return out


def _with(state: _State | None, digest: Digest) -> Entry | None:
    """The newest release that has these bytes."""
    entries = [] if state is None else list(state.entries.values())
    return next((entry for entry in reversed(entries) if digest in entry.paths), None)


def _published(entries: Mapping[Version, Entry]) -> dict[Version, Entry]:
    """Those that an index lists: what others made is derived from its commit, wherever it is read."""
    return {version: entry for version, entry in entries.items() if entry.is_published}


def _addition(path: str, source: Path, blob: Blob, stack: ExitStack) -> CommitOperationAdd:
    """The operation that adds a file, which must be what the release says. Large ones are read when they are sent.

    A stream in either case, neither bytes nor a path: streams the library sends by HTTP, which every Hub takes.
    """
    if blob.size <= _INLINE_BYTES:
        return CommitOperationAdd(path, io.BytesIO(b"".join(source_chunks(source, blob))))
    for _ in source_chunks(source, blob):
        pass
    operation = CommitOperationAdd(path, stack.enter_context(source.open("rb")))
    if operation.upload_info.sha256.hex() != blob.digest.hex:
        raise IntegrityError(
            "file-changed",
            f"{source} changed while it was published",
            cause=f"the release names {blob.digest}",
            hint="run the same command again when nothing writes to that directory",
        )
    return operation


def _pause() -> None:
    """Others write to the same repository: not all again at once."""
    time.sleep(random.uniform(0, limits.RACE_PAUSE_SECONDS))  # noqa: S311 - spreads writers, no secret


def _contended(name: PackageName) -> RegistryError:
    return RegistryError(
        "index-contended",
        f"{name} could not be published",
        cause=f"other publishers were faster {limits.INDEX_TRIES} times",
        hint="run the same command again",
    )
