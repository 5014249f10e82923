"""What goes over a connection: requests as they are written, the head of an answer as it is read.

urllib3 connects, through proxies and TLS too, and pools; http.client reads bodies. Between them they spend most of a
small request's time on general cases (headers as e-mail, bodies of any kind): so that part is here, for few.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from typing import IO, Any, Final, cast
from urllib.parse import urlsplit

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import InvalidHeader

__all__ = ["Connection", "Head", "SecureConnection"]

_LINE_BYTES: Final = 64 << 10
_HEADERS: Final = 200
_UNWRITABLE: Final = re.compile(r"[\r\n\0]")  # in a header; a secret or a name that holds one must not become two
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")


class Connection(HTTPConnection):
    """Plain HTTP."""

    asked = ("", "")
    """Method and target of the request that is under way."""

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_: Any) -> None:
        _write_request(self, method, url, body, headers)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override] # as urllib3's own
        return _read_response(self)


class SecureConnection(HTTPSConnection):
    """The same over TLS."""

    asked = ("", "")

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_: Any) -> None:
        _write_request(self, method, url, body, headers)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override] # as urllib3's own
        return _read_response(self)


def _write_request(
    here: Connection | SecureConnection,
    method: str,
    url: str,
    body: bytes | IO[bytes] | None,
    headers: Mapping[str, str] | None,
) -> None:
    """Send it; where ``body`` is a file, ``headers`` say how long it is."""
    if here.sock is not None:
        here.sock.settimeout(here.timeout)
    if _NO_TARGET.search(url):
        raise http.client.InvalidURL("a request's target can't hold spaces or control characters")
    lines = [f"{method} {url} HTTP/1.1", f"Host: {_host(here, url)}"]
    given = dict(headers or {})
    if isinstance(body, bytes) or (body is None and method in {"POST", "PUT", "PATCH"}):
        given["Content-Length"] = str(len(body or b""))
    for name, value in given.items():
        if _UNWRITABLE.search(name) or _UNWRITABLE.search(value):
            raise InvalidHeader(f"the header {name!r} can't be sent")
        if name != "Host":
            lines.append(f"{name}: {value}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    here.asked = method, url
    if isinstance(body, bytes) and len(body) <= _LINE_BYTES:
        here.send(head + body)
    else:
        here.send(head)
        if body:
            here.send(body)


def _read_response(here: Connection | SecureConnection) -> urllib3.HTTPResponse:
    method, url = here.asked
    here.sock.settimeout(here.timeout)
    raw = here.response_class(here.sock, method=method)
    try:
        raw.begin()
        response = urllib3.HTTPResponse(
            body=raw,
            headers=cast("HTTPHeaderDict", raw.headers),
            status=raw.status,
            version=raw.version,
            reason=raw.reason,
            preload_content=False,
            decode_content=False,
            original_response=raw,
            request_method=method,
            request_url=url,
        )
    except BaseException:
        raw.close()
        raise
    if raw.will_close:
        here.close()  # the answer keeps the socket until it is read
    return response


def _host(here: Connection | SecureConnection, url: str) -> str:
    if not url.startswith("/"):  # asked through a proxy
        return urlsplit(url).netloc
    tunnel = getattr(here, "_tunnel_host", None)
    host, port = (tunnel, getattr(here, "_tunnel_port", None)) if tunnel else (here.host, here.port)
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return name if port in {None, here.default_port} else f"{name}:{port}"


class Head(http.client.HTTPResponse):
    """An answer whose head is read into headers that can be looked up at once; its body is http.client's."""

    def begin(self) -> None:
        """Read the head; interim answers are passed over. Raises ``http.client.HTTPException`` for what is none."""
        while True:
            version, status, reason = self._read_status()  # type: ignore[attr-defined] # http.client's own, for this
            headers = self._read_headers()
            if status >= 200 or status == 101:
                break
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version in {"HTTP/1.0", "HTTP/0.9"} else 11
        self.headers = self.msg = headers  # type: ignore[assignment] # not an e-mail's, but as good for what is asked
        self.chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = self._length(headers)
        asked_to_close = self._check_close()  # type: ignore[attr-defined] # as above
        self.will_close = asked_to_close or (self.length is None and not self.chunked)

    def _length(self, headers: HTTPHeaderDict) -> int | None:
        if self.status in {204, 304} or self._method == "HEAD":  # type: ignore[attr-defined] # as above
            return 0
        said = {value.strip() for value in headers.get("Content-Length", "").split(",")}
        value = said.pop()
        if said or self.chunked or not (value.isascii() and value.isdigit() and len(value) < 19):
            return None
        return int(value)

    def _read_headers(self) -> HTTPHeaderDict:
        out, last = HTTPHeaderDict(), ""
        for _ in range(_HEADERS):
            line = self.fp.readline(_LINE_BYTES + 1)
            if len(line) > _LINE_BYTES:
                raise http.client.LineTooLong("header line")
            if line in {b"\r\n", b"\n", b""}:
                return out
            text = line.decode("latin-1")
            name, colon, value = text.partition(":")
            if text[0] in " \t" and last:  # a value that goes on
                out[last] = f"{out[last]} {text.strip()}".strip()
            elif colon and name:
                last = name.strip()
                out.add(last, value.strip())
        raise http.client.HTTPException(f"got more than {_HEADERS} headers")
