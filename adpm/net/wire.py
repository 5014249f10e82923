"""What goes over a connection: requests as they are written, answers as they are read.

http.client connects, and reads bodies in chunks. It spends most of a small request's time on general cases (headers as
e-mail, bodies of any kind): so that part is here, for few.
"""

from __future__ import annotations

import io
import re
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, InvalidURL, LineTooLong
from typing import IO, Any, Final

from adpm.net.patience import Patience

__all__ = ["Head", "write_request"]

_LINE_BYTES: Final = 64 << 10
_HEADERS: Final = 200
_UNWRITABLE: Final = re.compile(r"[\r\n\0]")  # in a header; a secret or a name that holds one must not become two
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")


def write_request(
    over: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
) -> None:
    """Send it; ``headers`` name the host, and where ``body`` is a file say how long it is. ``target`` is a path, or to
    a proxy a URL."""
    if _NO_TARGET.search(target):
        raise InvalidURL("a request's target can't hold spaces or control characters")
    lines = [f"{method} {target} HTTP/1.1"]
    given = dict(headers)
    if isinstance(body, bytes) or (body is None and method in {"POST", "PUT", "PATCH"}):
        given["Content-Length"] = str(len(body or b""))
    for name, value in given.items():
        if _UNWRITABLE.search(name) or _UNWRITABLE.search(value):
            raise HTTPException(f"the header {name!r} can't be sent")
        lines.append(f"{name}: {value}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if isinstance(body, bytes) and len(body) <= _LINE_BYTES:
        over.send(head + body)
    else:
        over.send(head)
        if body:
            over.send(body)


class Head(HTTPResponse):
    """An answer whose ``headers`` can be looked up at once: their names in small letters, the values of repeated ones
    joined by commas. http.client's are an e-mail's."""

    headers: dict[str, str]  # type: ignore[assignment] # as said

    def __init__(self, sock: socket.socket, method: str, patience: Patience) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Watched(self.fp.detach(), patience))
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

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
        self.headers = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = self._length(headers)
        wish = headers.get("connection", "").lower()
        last = "close" in wish if self.version == 11 else "keep-alive" not in wish
        self.will_close = last or (self.length is None and not self.chunked)

    def receive(self, most: int) -> bytes:
        """What of the body has arrived, at least one byte; nothing is the end.

        Raises ``http.client.IncompleteRead`` for a body that ends too early, where that can be told.
        """
        if self.length is None:
            return self.read1(most)
        data = self.fp.read1(min(most, self.length)) if self.length else b""
        if not data and self.length:
            raise IncompleteRead(b"", self.length)
        self.length -= len(data)
        if not self.length:
            self.close()
        return data

    def _length(self, headers: dict[str, str]) -> int | None:
        if self.status in {204, 304} or self._method == "HEAD":  # type: ignore[attr-defined] # as above
            return 0
        said = {value.strip() for value in headers.get("content-length", "").split(",")}
        value = said.pop()
        if said or self.chunked or not (value.isascii() and value.isdigit() and len(value) < 19):
            return None
        return int(value)

    def _read_headers(self) -> dict[str, str]:
        out: dict[str, str] = {}
        last = ""
        for _ in range(_HEADERS):
            line = self.fp.readline(_LINE_BYTES + 1)
            if len(line) > _LINE_BYTES:
                raise LineTooLong("header line")
            if line in {b"\r\n", b"\n", b""}:
                return out
            text = line.decode("latin-1")
            name, colon, value = text.partition(":")
            if text[0] in " \t" and last:  # a value that goes on
                out[last] = f"{out[last]} {text.strip()}".strip()
            elif colon and name:
                last, value = name.strip().lower(), value.strip()
                out[last] = f"{out[last]}, {value}" if last in out else value
        raise HTTPException(f"got more than {_HEADERS} headers")


class _Watched(io.RawIOBase):
    """A socket's bytes; ``TimeoutError`` when fewer than they should arrive. Only time spent waiting counts.

    A read timeout alone is not enough: a server that sends one byte now and then never triggers it.
    """

    def __init__(self, raw: io.RawIOBase, patience: Patience) -> None:
        self._raw = raw
        self._patience = patience
        self._waited = 0.0
        self._arrived = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        before = time.monotonic()
        count = self._raw.readinto(buffer)
        self._waited += time.monotonic() - before
        self._arrived += count or 0
        if self._waited > self._patience.stall and count:
            if self._arrived < self._patience.stall_bytes:
                raise TimeoutError(f"only {self._arrived} bytes in {self._waited:.0f} s")
            self._waited, self._arrived = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
