"""An object store as a place: S3 and what speaks its language, Google Cloud Storage, Azure, SFTP, memory.

Nothing that a store promises is believed. Before its first write a registry object tries the two conditions that the
layout would like to rely on, on an object that is there for that; a store that ignores one is written to as if it knew
none (``specs/registry.md``).
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from adpm import limits
from adpm.core.names import Digest
from adpm.errors import UsageError
from adpm.net.client import Document
from adpm.net.url import shown
from adpm.registry.bucket import Bucket
from adpm.registry.cache import DocumentCache
from adpm.registry.place import Ability, Content, WritablePlace
from adpm.registry.placed import PlacedRegistry
from adpm.registry.records import claim_record, read_claim_record

__all__ = ["ObjectPlace", "open_objects"]

_PROBE: Final = ".adpm/probe"
_PROBE_DATA: Final = b"adpm tries here whether this store keeps conditions\n"
_STALE: Final = '"00000000000000000000000000000000"'  # an entity tag that no content has

_BUCKETS: Final = {
    "s3": ("adpm.registry.s3:S3Bucket", "s3"),
    "gs": ("adpm.registry.stores:GoogleBucket", "gcs"),
    "az": ("adpm.registry.stores:AzureBucket", "azure"),
    "abfs": ("adpm.registry.stores:AzureBucket", "azure"),
    "memory": ("adpm.registry.stores:MemoryBucket", "s3"),
    "sftp": ("adpm.registry.sftp:SftpBucket", "sftp"),
}


@dataclass(frozen=True, slots=True)
class _Promises:
    """Which conditions the store was seen to keep."""

    creates: bool
    swaps: bool


class ObjectPlace(WritablePlace):
    """Objects of ``bucket``. There are no locks: claims and swaps decide where the store keeps conditions.

    Indexes are kept in ``cache`` under their addresses below ``url``, and moved again only if they changed.

    Where it does not, ``replace`` writes and answers False: its caller reads again, and ends when its work is there.
    """

    has_parts = True

    def __init__(self, bucket: Bucket, cache: DocumentCache | None = None, url: str = "") -> None:
        self._bucket = bucket
        self._cache = cache
        self._url = url
        self._lock = Lock()
        self._known: _Promises | None = None

    def read(self, path: str, limit: int) -> Content:
        if self._cache is None or not path.endswith("/index.json"):
            return self._bucket.get(path, limit)
        url = f"{self._url}/{path}"
        known = self._cache.get(url)
        if known is None or known.etag is None:
            content = self._bucket.get(path, limit)
        else:
            changed = self._bucket.get_changed(path, limit, known.etag)
            if changed is None:
                return Content(known.data, known.etag)
            content = changed
        self._cache.put(url, Document(content.data, content.token))
        return content

    def stream(self, path: str, size: int) -> Generator[bytes]:
        return self._bucket.stream(path, size)

    def part(self, path: str, size: int, start: int, stop: int | None) -> Generator[bytes] | None:
        return self._bucket.stream(path, size, start, stop)

    def has(self, path: str, size: int) -> bool:
        return self._bucket.size(path) == size

    def create(self, path: str, chunks: Iterable[bytes]) -> bool:
        iterator = iter(chunks)
        head = _head(iterator)
        if len(head) < limits.PART_BYTES and self._promises().creates:
            return self._bucket.put_new(path, head)
        if self._bucket.size(path) is not None:
            return False
        if len(head) < limits.PART_BYTES:
            self._bucket.put(path, head)
        else:  # large: a blob, whose name says what it holds, so that two writers can't disagree
            self._bucket.upload(path, _chain(head, iterator))
        return True

    def replace(self, path: str, data: bytes, token: str | None) -> bool:
        promises = self._promises()
        if promises.creates and token is None:
            return self._bucket.put_new(path, data)
        if promises.swaps and token is not None:
            return self._bucket.swap(path, data, token)
        self._bucket.put(path, data)
        return False

    @property
    def swaps(self) -> bool:
        return self._promises().swaps

    def claim(self, path: str, digest: Digest) -> Digest:
        promises = self._promises()
        if not promises.creates:
            return digest
        key = f".adpm/claims/{path}"
        for _ in range(limits.INDEX_TRIES):
            now = int(time.time())
            data = claim_record(digest, now)
            if self._bucket.put_new(key, data):
                return digest
            try:
                content = self._bucket.get(key, limits.RECORD_BYTES)
            except FileNotFoundError:
                continue
            holder, since = read_claim_record(content.data, f"the claim {key}")
            if holder == digest or now - since < limits.CLAIM_SECONDS:
                return holder
            if not promises.swaps:
                self._bucket.put(key, data)  # two may do that: then both releases are kept and named
                return digest
            if content.token is not None and self._bucket.swap(key, data, content.token):
                return digest
        return holder

    def list(self, prefix: str) -> Iterator[str]:
        return self._bucket.list(prefix)

    def remove(self, path: str) -> None:
        self._bucket.remove(path)

    def check(self, *, write: bool) -> Iterator[Ability]:
        yield from self._bucket.check(write=write)

    @contextmanager
    def exclusive(self, path: str) -> Iterator[None]:  # noqa: ARG002 - a store has no locks
        yield

    def _promises(self) -> _Promises:
        """What the store keeps, tried once, before anything is written. Cost: one to four requests of a few bytes."""
        with self._lock:
            if self._known is None:
                self._bucket.sweep()
                self._known = _tried(self._bucket)
            return self._known


def _tried(bucket: Bucket) -> _Promises:
    # The object of an earlier probe is good enough: if it is there, one request tells.
    creates = bucket.can_create and not (bucket.put_new(_PROBE, _PROBE_DATA) and bucket.put_new(_PROBE, _PROBE_DATA))
    return _Promises(creates, creates and bucket.can_swap and not bucket.swap(_PROBE, _PROBE_DATA, _STALE))


def _head(chunks: Iterator[bytes]) -> bytes:
    """The first bytes, at least ``limits.PART_BYTES`` of them if there are so many."""
    out = bytearray()
    for chunk in chunks:
        out += chunk
        if len(out) >= limits.PART_BYTES:
            break
    return bytes(out)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def open_objects(name: str, url: str, base_dir: Path, cache: Path | None) -> PlacedRegistry:  # noqa: ARG001 - an Opener
    """The registry below ``s3://bucket/prefix``, ``sftp://user@host/path`` and the like.

    Credentials, region and endpoint come from where the store's own tools look for them, never from the URL.
    Raises ``UsageError`` (``url-invalid``, ``extra-missing``).
    """
    scheme, bucket, prefix = _sftp_parts(url) if url.lower().startswith("sftp:") else _parts(url)
    path, extra = _BUCKETS[scheme]
    module, _, function = path.partition(":")
    try:
        make = cast("Callable[[str, str], Bucket]", getattr(importlib.import_module(module), function))
        made = make(bucket, prefix)
    except ImportError as error:
        if (error.name or "").startswith("adpm"):
            raise
        raise UsageError(
            "extra-missing",
            f"registry {name} is at {shown(url)}, and what {scheme}:// needs is not installed",
            cause=str(error),
            hint=f"pip install 'adpm[{extra}]'",
        ) from error
    kept = None if cache is None else DocumentCache(cache)
    return PlacedRegistry(name, shown(url), ObjectPlace(made, kept, url.rstrip("/")))


def _sftp_parts(url: str) -> tuple[str, str, str]:
    """Scheme, ``[user@]host[:port]`` and an absolute path; ``UsageError`` (``url-invalid``) for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    path = unquote(parts.path).rstrip("/")
    fault = None
    if parts.password is not None:
        fault = "it has a password in it, and is written to adapter.yaml, where others read it"
    elif not parts.hostname or parts.hostname.startswith("-") or port == 0:
        fault = "it names no host"
    elif parts.query or parts.fragment or any(part in {"", ".", ".."} for part in path.split("/")[1:]):
        fault = "its path is not that of a directory"
    elif not path:
        fault = "it names no directory"
    if fault is not None:
        raise UsageError(
            "url-invalid",
            f"sftp://{parts.hostname or '...'} is not the address of a registry on an SFTP server",
            cause=fault,
            hint="write it as sftp://user@host/srv/registry; keys belong in your ssh agent or ~/.ssh",
        )
    return "sftp", parts.netloc, path


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix, which has no ``/`` at either end."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    prefix = parts.path.removeprefix("/").removesuffix("/")
    fault = None
    if "@" in parts.netloc:
        fault = "it has a user name or password in it, and is written to adapter.yaml, where others read it"
    elif parts.query or parts.fragment or "?" in url or "#" in url:
        fault = "it has a query or a fragment"
    elif not parts.netloc or ":" in parts.netloc or "\\" in url or any(c.isspace() for c in url):
        fault = "it names no bucket"
    elif any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
        fault = "its path has empty parts, or . or .."
    if fault is not None:
        raise UsageError(
            "url-invalid",
            f"{shown(url)!r} is not the address of a registry in an object store",
            cause=fault,
            hint="write it as s3://bucket/prefix; credentials and endpoint belong where the store's own tools look "
            "for them (for S3: AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws)",
        )
    return parts.scheme.lower(), parts.netloc, prefix
