"""Repositories that nobody made for adpm: what PEFT or AdapterHub put there, as a release. ``specs/hub.md``.

A release depends on the commit alone. Weights are not fetched to list it, for the Hub knows the sha256 of large files;
only pickles are, since what they become must be known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, File, Listing
from adpm.errors import AdapterError, NotFoundError
from adpm.formats.card import read_card
from adpm.formats.json import canonical, parse_json
from adpm.formats.oci import read_release, write_release
from adpm.formats.pickles import unpickle
from adpm.formats.plain import CONFIG, README, plain_card, plain_files, read_config
from adpm.formats.resave import resave
from adpm.net.client import Document
from adpm.registry.cache import DocumentCache
from adpm.registry.hub_api import HubApi, HubFile
from adpm.registry.hub_records import Entry
from adpm.store.files import blob_of, read_bounded

__all__ = ["MADE", "Plain"]

MADE: Final = ""  # stands for the path of what lies nowhere in the repository
_FORMAT: Final = 1  # of what is derived: another number forgets what is cached


class Plain:
    """Makes releases from commits. What it makes beyond the repository's own files stays in memory; the costly part
    (trees, converted weights) is kept in ``cache`` if there is one. Threads may share it."""

    def __init__(self, api: HubApi, cache: Path | None) -> None:
        self._api = api
        self._cache = None if cache is None else DocumentCache(cache)
        self._made: dict[Digest, bytes] = {}

    def entry(self, repository: str, name: PackageName, version: Version, commit: str) -> Entry | None:
        """The release of a commit; None where the commit has no ``adapter_config.json``.

        Raises ``DocumentError`` and ``AdapterError`` for one that is broken, ``UsageError`` (``extra-missing``).
        """
        files = {file.path: file for file in self._files(repository, commit)}
        if CONFIG not in files:
            return None
        source = f"{repository} at {commit[:12]}"
        config_data = self._small(repository, commit, CONFIG)
        config = read_config(config_data, f"{CONFIG} of {source}")
        readme = self._small(repository, commit, README) if README in files else b""
        chosen = plain_files(files, config, source)
        pickles = {
            path: self._blob(repository, commit, files[path]) for path in chosen.values() if path.endswith(".bin")
        }
        sums = {path: blob.digest for path, blob in pickles.items()}
        converted = self._converted(repository, commit, pickles, source)
        packed: list[File] = []
        paths: dict[Digest, str] = {}
        for path, origin in chosen.items():
            if origin in converted:
                blob = Blob.of(converted[origin])
                paths[blob.digest] = MADE
            else:
                blob = self._blob(repository, commit, files[origin])
                paths[blob.digest] = origin
            packed.append(File(path, blob))
        card_data = plain_card(name, version, config, readme, sums)
        manifest_data = write_release(Blob.of(card_data), packed)
        for data in (card_data, manifest_data, *converted.values()):
            paths[Digest.of(data)] = MADE
            self._made[Digest.of(data)] = data
        release = read_release(manifest_data, f"the release made of {source}")
        card = read_card(card_data, f"the card made of {source}")
        return Entry(Listing.of(card, release.manifest), paths, commit)

    def made(self, digest: Digest) -> bytes:
        """What an entry has under ``MADE``."""
        return self._made[digest]

    def _files(self, repository: str, commit: str) -> list[HubFile]:
        """The files at the top of a commit, which never change."""
        key = self._key("tree", f"{repository}@{commit}")
        kept = self._get(key)
        if kept is not None:
            entries: list[Any] = parse_json(kept, source=key, code="registry-invalid", limit=limits.INDEX_BYTES)
            return [HubFile(path, size, None if sha is None else Digest.parse(sha)) for path, size, sha in entries]
        files = self._api.files(repository, commit)
        self._put(key, canonical([[file.path, file.size, file.sha256] for file in files]))
        return files

    def _small(self, repository: str, commit: str, path: str) -> bytes:
        return read_bounded(self._fetched(repository, commit, path), limits.CONFIG_BYTES)

    def _blob(self, repository: str, commit: str, file: HubFile) -> Blob:
        if file.sha256 is not None:
            return Blob(file.sha256, file.size)
        return blob_of(self._fetched(repository, commit, file.path))

    def _fetched(self, repository: str, commit: str, path: str) -> Path:
        there = self._api.download(repository, commit, path)
        if there is None:
            raise NotFoundError(
                "blob-missing",
                f"{repository} at {commit[:12]} does not hold {path}, which it lists",
                hint="ask its owner to upload it again",
            )
        return there

    def _converted(self, repository: str, commit: str, pickles: dict[str, Blob], source: str) -> dict[str, bytes]:
        """Each pickle by its path as safetensors, as ``resave`` spells it; all in one process."""
        keys = {path: self._key("converted", blob.digest) for path, blob in pickles.items()}
        out = {path: kept for path, key in keys.items() if (kept := self._get(key)) is not None}
        for path, blob in pickles.items():
            if blob.size > limits.PICKLE_BYTES:
                raise AdapterError(
                    "pickle-refused",
                    f"the pickled weights in {source} are too large to be converted",
                    cause=f"{path} has {blob.size} bytes, at most {limits.PICKLE_BYTES} are allowed",
                    hint="ask its owner to save the adapter with safetensors",
                )
        wanted = {path: self._fetched(repository, commit, path).read_bytes() for path in pickles if path not in out}
        if wanted:
            for path, data in unpickle(wanted, source=source).items():
                out[path] = resave(data, source=f"{source}/{path}")
                self._put(keys[path], out[path])
        return out

    def _key(self, kind: str, what: str) -> str:
        return f"hub:{_FORMAT}:{kind}:{self._api.endpoint}:{what}"

    def _get(self, key: str) -> bytes | None:
        kept = None if self._cache is None else self._cache.get(key)
        return None if kept is None else kept.data

    def _put(self, key: str, data: bytes) -> None:
        if self._cache is not None:
            self._cache.put(key, Document(data, "made"))
