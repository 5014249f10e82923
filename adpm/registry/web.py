"""A web server as a place: any that serves files. One that speaks WebDAV takes writes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path
from threading import Lock
from urllib.parse import quote, urlsplit

from adpm import limits
from adpm.errors import NetworkError, NotFoundError, UsageError
from adpm.net.client import Client
from adpm.net.patience import Patience
from adpm.net.url import checked, shown
from adpm.registry.cache import DocumentCache
from adpm.registry.place import Ability, Content, Place, WritablePlace
from adpm.registry.placed import PlacedRegistry
from adpm.registry.reach import way_to
from adpm.registry.records import MARKER

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
        self._writes: WritablePlace | str | None = None
        self._lock = Lock()

    def read(self, path: str, limit: int) -> Content:
        url = self._at(path)
        # Servers that make an ETag of time and size give two contents of one length within a second the same one:
        # what an index lists changes its length, what a channel means does not.
        cache = None if "/_channels/" in path else self._cache
        known = None if cache is None else cache.get(url)
        with _missing(path):
            document = self._client.document(url, limit=limit, known=known)
        if cache is not None and document is not known:
            cache.put(url, document)
        return Content(document.data, document.etag)

    def stream(self, path: str, size: int) -> Generator[bytes]:
        return self.part(path, size, 0, None)

    def part(self, path: str, size: int, start: int, stop: int | None) -> Generator[bytes]:
        with _missing(path):
            yield from self._client.stream(self._at(path), size=size, offset=start, stop=stop)

    def check(self, *, write: bool) -> Iterator[Ability]:  # noqa: ARG002 - all of it reads
        url = self._at(MARKER)
        yield from way_to(url, self._client)
        with _missing(MARKER):
            document = self._client.document(url, limit=limits.RECORD_BYTES)
        yield Ability("reads", True, f"{len(document.data)} bytes")
        again = self._client.document(url, limit=limits.RECORD_BYTES, known=document)
        if document.etag is None:
            yield Ability("ETag", False, "none: indexes are sent again each time")
        else:
            words = "what has not changed is not sent again" if again is document else "it is sent again all the same"
            yield Ability("ETag", again is document, words)
        part = self._client.exchange("GET", url, good={200, 206}, headers={"Range": "bytes=1-"})
        ranges = part.status == 206 and part.data == document.data[1:]
        yield Ability("ranges", ranges, "a cut download goes on" if ranges else "a cut download begins again")
        zipped = self._client.exchange("GET", url, good={200}, headers={"Accept-Encoding": "gzip"})
        packed = "gzip" in zipped.headers.get("content-encoding", "")
        yield Ability("gzip", packed or None, "documents are compressed" if packed else f"not of {MARKER}, at least")

    def writable(self) -> WritablePlace | str:
        with self._lock:
            if self._writes is None:
                self._writes = self._asked()
            return self._writes

    def _asked(self) -> WritablePlace | str:
        """What the server says of itself is enough to try it; what it keeps of that is tried before the first write."""
        for at in (self._url, self._url.rpartition("/")[0]):  # what is not there yet can't be asked
            try:
                answer = self._client.exchange("OPTIONS", f"{at}/", good=range(200, 300))
                break
            except (NetworkError, NotFoundError) as error:
                why = f"it does not say what it can do: {error.cause}"
                if isinstance(error, NetworkError):
                    return why
        else:
            return why
        if "1" not in [word.strip() for word in answer.headers.get("dav", "").split(",")]:
            return "it does not speak WebDAV: its answer to OPTIONS has no header DAV"
        allowed = {word.strip().upper() for word in answer.headers.get("allow", "").split(",")}
        if allowed and "PROPFIND" not in allowed and "MKCOL" not in allowed:
            return f"it allows only {', '.join(sorted(allowed))}"
        from adpm.registry.dav import DavBucket  # noqa: PLC0415 - who only reads must not pay for what writing needs
        from adpm.registry.objects import ObjectPlace  # noqa: PLC0415 - as above

        return ObjectPlace(DavBucket(self._url, self._client))

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


def open_mirror(name: str, url: str, base_dir: Path, cache: Path | None) -> PlacedRegistry:  # noqa: ARG001 - an Opener
    """The same for a mirror: nobody waits long for one, or asks it twice, as there is another one to ask."""
    return PlacedRegistry(name, shown(url), WebPlace(url, _hasty_client()))


@once
def _client() -> Client:
    """One pool of connections for all registries of the process."""
    return Client()


@once
def _hasty_client() -> Client:
    """The same for all mirrors."""
    return Client(Patience(read=limits.MIRROR_SECONDS, stall=limits.MIRROR_SECONDS, retries=0))
