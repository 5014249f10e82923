"""The HTTP client: documents as a whole, large files as streams that survive cuts."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final
from urllib.parse import urljoin, urlsplit

import urllib3

from adpm import limits
from adpm.errors import NetworkError
from adpm.net.body import chunks_of, document_of, has_an_end
from adpm.net.credentials import Credentials, from_netrc
from adpm.net.faults import TransientError, of_exception, of_status
from adpm.net.patience import Patience
from adpm.net.pool import make_pool
from adpm.net.tries import Tries
from adpm.net.url import checked, origin, shown
from adpm.version import __version__

__all__ = ["Client", "Document"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BROKEN: Final = (urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes, and the ETag under which the server will say whether it has changed."""

    data: bytes
    etag: str | None


class Client:
    """Reads over HTTP(S); threads may share it. Errors: those of ``net.faults``, URLs in them without secrets.

    ``credentials`` is asked once a host. What it gives goes only to the origin that was asked, never to where that
    redirects. No redirect leads from HTTPS to HTTP.
    """

    def __init__(self, patience: Patience | None = None, credentials: Credentials = from_netrc) -> None:
        self._patience = patience or Patience()
        self._credentials = functools.cache(credentials)
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Close the idle connections; the client can be used further."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def document(self, url: str, *, limit: int, known: Document | None = None) -> Document:
        """The whole of a document of at most ``limit`` bytes, also after decompression.

        ``known`` is what was read before: it is returned itself if the server says that nothing has changed.
        """
        headers, good = {"Accept-Encoding": "gzip"}, {200}
        if known is not None and known.etag is not None:
            headers["If-None-Match"] = known.etag
            good.add(304)
        tries = Tries(self._patience)
        while True:
            try:
                with self._open(url, headers, good) as response:
                    if known is not None and response.status == 304:
                        return known
                    return Document(document_of(response, url, limit), response.headers.get("ETag"))
            except TransientError as failure:
                tries.wait_or_raise(failure)

    def stream(self, url: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a file from ``offset`` on, of which the caller knows by digest what they should be.

        ``size`` is the whole file's: a stream that ends before it is resumed where it was cut. What a server sends is
        not compared with it; whether the bytes of two connections belong together, the caller's digest decides.
        """
        tries, position, etag = Tries(self._patience), offset, None
        while position < size:
            try:
                with self._open(url, _range(position, etag), {200, 206}) as response:
                    etag = response.headers.get("ETag", etag)
                    for chunk in chunks_of(response, url, position):
                        position += len(chunk)
                        tries.progress(len(chunk))
                        yield chunk
                    if has_an_end(response):
                        return  # all that the server has; the caller notices if that is too little
                    if position < size:
                        raise of_exception(EOFError(), url)
            except TransientError as failure:
                tries.wait_or_raise(failure)

    @contextmanager
    def _open(self, url: str, headers: Mapping[str, str], good: Container[int]) -> Iterator[urllib3.BaseHTTPResponse]:
        """One try: follow redirects to an answer whose status is ``good``; its connection is given back."""
        response = self._follow(url, headers)
        try:
            if response.status not in good:
                raise of_status(response, url)
            yield response
        finally:
            _give_back(response)

    def _follow(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        here = checked(url)
        for _ in range(limits.REDIRECTS + 1):
            response = self._request(here, self._authorized(headers, url, here))
            if response.status not in _REDIRECTS:
                return response
            target = response.headers.get("Location")
            _give_back(response)
            here = _redirected(here, target)
        raise _bad_redirect(url, f"more than {limits.REDIRECTS} redirects")

    def _authorized(self, headers: Mapping[str, str], asked: str, here: str) -> dict[str, str]:
        out = {**headers, "User-Agent": f"adpm/{__version__}"}
        authorization = self._credentials(origin(asked)[1]) if origin(asked) == origin(here) else None
        if authorization is not None:
            out["Authorization"] = authorization
        return out

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool(urlsplit(url).scheme).request(
                "GET", url, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
        except _BROKEN as error:
            raise of_exception(error, url) from error

    def _pool(self, scheme: str) -> urllib3.PoolManager:
        with self._lock:
            if scheme not in self._pools:
                self._pools[scheme] = make_pool(scheme, self._patience)
            return self._pools[scheme]


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    """End an answer: its connection serves another if all was read, and is closed if not."""
    response.close()
    response.release_conn()


def _range(position: int, etag: str | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if position:
        headers["Range"] = f"bytes={position}-"
        if etag is not None and not etag.startswith("W/"):  # a weak one does not promise equal bytes
            headers["If-Range"] = etag
    return headers


def _redirected(here: str, target: str | None) -> str:
    if not target:
        raise _bad_redirect(here, "a redirect without an address")
    there = urljoin(here, target)
    scheme = urlsplit(there).scheme
    if scheme not in {"http", "https"} or (scheme == "http" and urlsplit(here).scheme == "https"):
        raise _bad_redirect(here, f"a redirect to {shown(there)}, which is not secure")
    return there


def _bad_redirect(url: str, cause: str) -> NetworkError:
    return NetworkError(
        "redirect-refused",
        f"{origin(url)[1]} redirects to nowhere good",
        cause=f"{shown(url)}: {cause}",
        hint="use the address that the server means, or ask who runs it",
    )
