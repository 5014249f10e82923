"""A kind of registry that somebody else might write: all of it in one SQLite file. ``sqlite:///srv/adapters.db``.

It knows adpm by what ``specs/registry.md`` says of plugins, and nothing of adpm knows it.
"""

# ruff: noqa: ARG002 - the signatures are the port's

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from adpm.errors import RegistryError, UsageError
from adpm.registry.place import Content, WritablePlace
from adpm.registry.placed import PlacedRegistry


class SqlitePlace(WritablePlace):
    def __init__(self, file: Path) -> None:
        self._file = file

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        """A transaction that keeps other writers away."""
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, data BLOB)")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _get(self, connection: sqlite3.Connection, path: str) -> bytes | None:
        row = connection.execute("SELECT data FROM files WHERE path = ?", (path,)).fetchone()
        return None if row is None else bytes(row[0])

    def read(self, path: str, limit: int) -> Content:
        with self._table() as table:
            data = self._get(table, path)
        if data is None:
            raise FileNotFoundError(path)
        if len(data) > limit:
            raise RegistryError("registry-invalid", f"{path} is too large")
        return Content(data, hashlib.sha256(data).hexdigest())

    def stream(self, path: str, size: int) -> Generator[bytes]:
        with self._table() as table:
            data = self._get(table, path)
        if data is None:
            raise FileNotFoundError(path)
        yield data

    def has(self, path: str, size: int) -> bool:
        with self._table() as table:
            data = self._get(table, path)
        return data is not None and len(data) == size

    def create(self, path: str, chunks: Iterable[bytes]) -> bool:
        data = b"".join(chunks)
        with self._table() as table:
            return table.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (path, data)).rowcount == 1

    def replace(self, path: str, data: bytes, token: str | None) -> bool:
        with self._table() as table:
            now = self._get(table, path)
            if token != (None if now is None else hashlib.sha256(now).hexdigest()):
                return False
            table.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (path, data))
            return True

    def list(self, prefix: str) -> Iterator[str]:
        with self._table() as table:
            paths = [row[0] for row in table.execute("SELECT path FROM files")]
        yield from (path.removeprefix(prefix) for path in paths if path.startswith(prefix))

    def remove(self, path: str) -> None:
        with self._table() as table:
            table.execute("DELETE FROM files WHERE path = ?", (path,))

    @contextmanager
    def exclusive(self, path: str) -> Iterator[None]:
        yield  # replace is safe


def open_sqlite(name: str, url: str, base_dir: Path, cache: Path | None) -> PlacedRegistry:
    path = unquote(urlsplit(url).path)
    if not path:
        raise UsageError("url-invalid", f"{url!r} names no file", hint="write it as sqlite:///srv/adapters.db")
    return PlacedRegistry(name, url, SqlitePlace(Path(path)))
