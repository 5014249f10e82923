"""A directory as a place: local, or on a file system that is shared and knows locks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from adpm import limits
from adpm.core.names import Digest
from adpm.errors import RegistryError, UsageError
from adpm.registry.place import Content, WritablePlace
from adpm.registry.placed import PlacedRegistry
from adpm.store.durable import create_from, remove_stale, replace

__all__ = ["DirectoryPlace", "open_directory"]

_OWN: Final = ".adpm"  # locks and temporary files; no package's name begins with a dot


class DirectoryPlace(WritablePlace):
    """Files below ``root``. Immutable ones are read-only; all appear whole, after a sync.

    A token is the digest of the content. ``replace`` compares and swaps safely only inside ``exclusive``.
    """

    locks = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, limit: int) -> Content:
        with self._at(path).open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise RegistryError(
                "registry-invalid", f"{self._at(path)} is too large", cause=f"it has more than {limit} bytes"
            )
        return Content(data, Digest.of(data))

    def stream(self, path: str, size: int) -> Generator[bytes]:
        return self.part(path, size, 0, None)

    def part(self, path: str, size: int, start: int, stop: int | None) -> Generator[bytes]:  # noqa: ARG002 - of no use here
        with self._at(path).open("rb", buffering=0) as file:
            file.seek(start)
            while chunk := file.read(limits.CHUNK_BYTES):
                yield chunk

    def has(self, path: str, size: int) -> bool:
        try:
            return self._at(path).stat().st_size == size
        except FileNotFoundError:
            return False

    def create(self, path: str, chunks: Iterable[bytes]) -> bool:
        return create_from(self._temporaries, self._at(path), chunks)

    def replace(self, path: str, data: bytes, token: str | None) -> bool:
        try:
            now = Digest.of(self._at(path).read_bytes())
        except FileNotFoundError:
            now = None
        if now != token:
            return False
        replace(self._temporaries, self._at(path), data)
        return True

    @property
    def swaps(self) -> bool:
        return True

    def list(self, prefix: str) -> Iterator[str]:
        start = self._at(prefix)
        for directory, folders, files in os.walk(start):
            if _OWN in folders:
                folders.remove(_OWN)
            below = Path(directory).relative_to(start)
            for file in files:
                yield (below / file).as_posix()

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            if path.endswith("/"):
                self._at(path).rmdir()
            else:
                self._at(path).unlink()

    @contextmanager
    def exclusive(self, path: str) -> Iterator[None]:
        locks = self._root / _OWN / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / path.strip("/").replace("/", "+"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            remove_stale(self._temporaries)
            yield
        finally:
            os.close(descriptor)

    @property
    def _temporaries(self) -> Path:
        return self._root / _OWN / "tmp"

    def _at(self, path: str) -> Path:
        return self._root / path


def open_directory(name: str, url: str, base_dir: Path, cache: Path | None) -> PlacedRegistry:  # noqa: ARG001 - an Opener
    """The registry in a directory: a path, relative to ``base_dir``, or a ``file://`` URL."""
    path = url
    if url.lower().startswith("file://"):
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise UsageError(
                "url-invalid", f"{url!r} names no file of this machine", hint="write it as file:///srv/registry"
            )
        path = unquote(parts.path)
    root = base_dir / Path(path).expanduser()
    return PlacedRegistry(name, url, DirectoryPlace(root))
