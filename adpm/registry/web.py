"""A web server as a place: any that serves files. Read-only."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path
from urllib.parse import quote, urlsplit

from adpm.errors import NotFoundError, UsageError
from adpm.net.client import Client
from adpm.net.url import checked, shown
from adpm.registry.cache import DocumentCache
from adpm.registry.place import Content, Place
from adpm.registry.placed import PlacedRegistry

__all__ = ["WebPlace", "open_web"]


class WebPlace(Place):
    """What lies below ``url``. Documents are kept in ``cache``, and asked for again only if they changed."""

    has_parts = True

    def __init__(self, url: str, client: Client, cache: DocumentCache | None = None) -> None:
        parts = urlsplit(checked(url))
        if parts.query or parts.fragment:
            raise UsageError(
                "url-invalid",
                f"{shown(url)!r} has a query or a fragment",
                hint="give the address of the registry alone",
            )
        self._url = url.rstrip("/")
        self._client = client
        self._cache = cache

    def read(self, path: str, limit: int) -> Content:
        url = self._at(path)
        known = None if self._cache is None else self._cache.get(url)
        with _missing(path):
            document = self._client.document(url, limit=limit, known=known)
        if self._cache is not None and document is not known:
            self._cache.put(url, document)
        return Content(document.data, document.etag)

    def stream(self, path: str, size: int) -> Generator[bytes]:
        return self.part(path, size, 0, None)

    def part(self, path: str, size: int, start: int, stop: int | None) -> Generator[bytes]:
        with _missing(path):
            yield from self._client.stream(self._at(path), size=size, offset=start, stop=stop)

    def _at(self, path: str) -> str:
        return f"{self._url}/{quote(path)}"


@contextmanager
def _missing(path: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(path) from error


def open_web(name: str, url: str, base_dir: Path, cache: Path | None) -> PlacedRegistry:  # noqa: ARG001 - an Opener
    """The registry below an ``http://`` or ``https://`` URL."""
    kept = None if cache is None else DocumentCache(cache)
    return PlacedRegistry(name, shown(url), WebPlace(url, _client(), kept))


@once
def _client() -> Client:
    """One pool of connections for all registries of the process."""
    return Client()
