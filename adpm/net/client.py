"""The HTTP client: documents as a whole, large files as streams that survive cuts, and single exchanges."""

from __future__ import annotations

import http.client
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import IO, Final
from urllib.parse import urljoin

from adpm import limits
from adpm.errors import NetworkError, UsageError
from adpm.net.authority import Authority, PerHost
from adpm.net.body import RangesIgnoredError, chunks_of, document_of, has_an_end
from adpm.net.credentials import Credentials, Login
from adpm.net.faults import ConnectError, TransientError, of_exception, of_status, refused_elsewhere
from adpm.net.logins import find_login
from adpm.net.patience import Patience
from adpm.net.pool import Pool, Response
from adpm.net.proxy import proxy_for
from adpm.net.tries import Tries
from adpm.net.url import checked, encoded, origin, shown
from adpm.version import __version__

__all__ = ["Answer", "Client", "Document"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEPT: Final = frozenset({307, 308})  # redirects that keep method and body
_READING: Final = frozenset({"GET", "HEAD"})
_BROKEN: Final = (ConnectError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes, and the ETag under which the server will say whether it has changed."""

    data: bytes
    etag: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one exchange: status, headers (names in small letters, repeated ones joined by commas), and
    a body of bounded size."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of ``url``, and of where that redirects."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | IO[bytes] | None = None
    redirects: int = limits.REDIRECTS


class Client:
    """Talks HTTP(S); threads may share it. Errors: those of ``net.faults``, URLs in them without secrets.

    ``authority`` (by default what ``credentials`` knows of a host) is asked for the origin that the caller names,
    never for where that redirects. No redirect leads from HTTPS to HTTP.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        credentials: Credentials = find_login,
        authority: Authority | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._authority = authority or PerHost(credentials)
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._lock = Lock()

    def login(self, url: str) -> Login | None:
        """As whom ``url`` is asked."""
        return self._authority.login(url)

    def tries(self) -> Tries:
        """Counts the failures of a piece of work that the caller tries again itself."""
        return Tries(self._patience)

    def close(self) -> None:
        """Close the idle connections; the client can be used further."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()

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
                with self._open(_Request("GET", url, headers), good) as response:
                    if known is not None and response.status == 304:
                        return known
                    return Document(document_of(response, url, limit), response.headers.get("etag"))
            except TransientError as failure:
                tries.wait_or_raise(failure)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        good: Container[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        limit: int = limits.RECORD_BYTES,
        again: bool = True,
        redirects: int = limits.REDIRECTS,
    ) -> Answer:
        """One request of any method, whose answer has a status that is ``good`` and at most ``limit`` bytes.

        It is tried again like reading is; where it must not be sent twice as it is, not ``again``, but a
        ``TransientError`` leaves the decision to the caller. A ``body`` may be a file, sent whole. Redirects of
        what writes are followed only if they keep method and body. ``headers`` go wherever redirects lead: with a
        secret in them, allow no ``redirects``.
        """
        request = _Request(method, url, {"Accept-Encoding": "identity", **(headers or {})}, body, redirects)
        tries = self.tries()
        while True:
            try:
                with self._open(request, good) as response:
                    data = b"" if method == "HEAD" else document_of(response, url, limit)
                    return Answer(response.status, response.headers, data)
            except TransientError as failure:
                if not again:
                    raise
                tries.wait_or_raise(failure)

    def stream(
        self, url: str, *, size: int, offset: int = 0, stop: int | None = None, accept: str = "*/*"
    ) -> Iterator[bytes]:
        """The bytes of a file from ``offset`` on, of which the caller knows by digest what they should be.

        ``size`` is the whole file's: a stream that ends before it is resumed where it was cut. What a server sends is
        not compared with it; whether the bytes of two connections belong together, the caller's digest decides.
        ``accept`` is the media type to ask for.

        With ``stop`` only the bytes before it are asked for. A server that knows no ranges sends all: from the
        beginning on that is passed on, also beyond ``stop``; else ``RangesIgnoredError`` is raised.
        """
        tries, position, etag = Tries(self._patience), offset, None
        end = size if stop is None else stop
        while position < end:
            try:
                headers = {"Accept": accept, **_range(position, stop, etag)}
                with self._open(_Request("GET", url, headers), {200, 206, 416}) as response:
                    if response.status == 416:
                        return  # the file ends before: the caller notices
                    if response.status == 200 and stop is not None:
                        if offset:
                            raise RangesIgnoredError(url)
                        end = size
                    etag = response.headers.get("etag", etag)
                    for chunk in chunks_of(response, url, position):
                        position += len(chunk)
                        tries.progress(len(chunk))
                        yield chunk
                    if has_an_end(response):
                        return  # all that the server has; the caller notices if that is too little
                    if position < end:
                        raise of_exception(EOFError(), url)
            except TransientError as failure:
                tries.wait_or_raise(failure)

    @contextmanager
    def _open(self, request: _Request, good: Container[int]) -> Iterator[Response]:
        """One try: follow redirects to an answer whose status is ``good``; its connection is given back."""
        response, here = self._follow(request)
        try:
            if response.status not in good:
                raise self._refused(request, response, here)
            yield response
        finally:
            response.release()

    def _refused(self, request: _Request, response: Response, here: str) -> Exception:
        if response.status not in {401, 403}:
            return of_status(response, request.url, None)
        if origin(here) != origin(request.url):
            return refused_elsewhere(response.status, request.url, here)
        return of_status(response, request.url, self._authority.login(request.url))

    def _follow(self, request: _Request) -> tuple[Response, str]:
        """The answer, and where it came from."""
        here = encoded(checked(request.url))
        for _ in range(request.redirects + 1):
            response = self._authorized(request, here)
            if response.status not in _REDIRECTS:
                return response, here
            target = response.headers.get("location")
            response.release()
            here = _redirected(here, target)
            if request.method not in _READING and response.status not in _KEPT:
                raise _bad_redirect(request.url, f"a redirect that would not take a {request.method} along")
        raise _bad_redirect(request.url, f"more than {request.redirects} redirects")

    def _authorized(self, request: _Request, here: str) -> Response:
        """The answer to ``request`` at ``here``; where it is 401 and the authority knows better, the second one."""
        if origin(request.url) != origin(here):
            return self._send(request, here, None)
        method, url = request.method, request.url
        sent = self._authority.authorization(method, url)
        response = self._send(request, here, sent)
        if response.status != 401:
            return response
        challenges = response.headers.get("www-authenticate", "")
        try:
            better = self._authority.challenged(method, url, challenges, sent)
        except BaseException:
            response.release()
            raise
        if not better:
            return response
        response.release()
        return self._send(request, here, self._authority.authorization(method, url))

    def _send(self, request: _Request, here: str, authorization: str | None) -> Response:
        headers = {**request.headers, "User-Agent": f"adpm/{__version__}"}
        if request.body is not None and not isinstance(request.body, bytes):
            headers["Content-Length"] = str(request.body.seek(0, os.SEEK_END))
            request.body.seek(0)
        if authorization is not None:
            headers["Authorization"] = authorization
        try:
            return self._pool(here).ask(request.method, here, headers, request.body)
        except _BROKEN as error:
            raise of_exception(error, here) from error

    def _pool(self, url: str) -> Pool:
        at = origin(url)
        with self._lock:
            if at not in self._pools:
                self._pools[at] = Pool(at, self._patience, proxy_for(url))
            return self._pools[at]


def _range(position: int, stop: int | None, etag: str | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if position or stop is not None:
        headers["Range"] = f"bytes={position}-{'' if stop is None else stop - 1}"
        if position and etag is not None and not etag.startswith("W/"):  # a weak one does not promise equal bytes
            headers["If-Range"] = etag
    return headers


def _redirected(here: str, target: str | None) -> str:
    if not target:
        raise _bad_redirect(here, "a redirect without an address")
    try:
        there = encoded(checked(urljoin(here, target)))
    except (ValueError, UsageError) as error:
        raise _bad_redirect(here, f"a redirect to {shown(target)}, which is no address") from error
    if (origin(here)[0], origin(there)[0]) == ("https", "http"):
        raise _bad_redirect(here, f"a redirect to {shown(there)}, which is not secure")
    return there


def _bad_redirect(url: str, cause: str) -> NetworkError:
    return NetworkError(
        "redirect-refused",
        f"{origin(url)[1]} redirects to nowhere good",
        cause=f"{shown(url)}: {cause}",
        hint="use the address that the server means, or ask who runs it",
    )
