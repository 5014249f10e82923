"""Reading an answer's body: whole and bounded, or in chunks."""

from __future__ import annotations

import http.client
import re
import zlib
from collections.abc import Iterator
from typing import Final

from adpm.errors import NetworkError
from adpm.limits import RECEIVE_BYTES
from adpm.net.faults import of_exception, too_large
from adpm.net.pool import Response
from adpm.net.url import origin, shown

__all__ = ["RangesIgnoredError", "chunks_of", "document_of", "has_an_end"]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)\Z")


class RangesIgnoredError(Exception):
    """A part of a file was asked for, and the server knows only whole ones."""


def document_of(response: Response, url: str, limit: int) -> bytes:
    """The body, decompressed; ``NetworkError`` (``response-too-large``) once more than ``limit`` bytes are known of."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"gzip", "x-gzip", "identity"}:
        raise _broken(url, f"it uses the encoding {encoding[:40]!r}, which nobody asked for")
    body = _bounded(response, url, limit)
    return body if encoding == "identity" else _unzip(body, url, limit)


def _bounded(response: Response, url: str, limit: int) -> bytes:
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise too_large(url, limit)
    out = bytearray()
    for chunk in _arriving(response, url):
        out += chunk
        if len(out) > limit:
            raise too_large(url, limit)
    return bytes(out)


def _unzip(body: bytes, url: str, limit: int) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        out = unzip.decompress(body, limit + 1)
    except zlib.error as error:
        raise _broken(url, f"its gzip data is broken ({error})") from error
    if len(out) > limit:
        raise too_large(url, limit)
    if not unzip.eof or unzip.unused_data:
        raise _broken(url, "its gzip data is not one whole stream")
    return out


def chunks_of(response: Response, url: str, position: int) -> Iterator[bytes]:
    """The body from ``position`` of the file on, as it arrives; what a server sends of before is skipped."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _broken(url, f"it uses the encoding {encoding[:40]!r}, which nobody asked for")
    skip = position
    if response.status == 206:
        match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        if match is None or int(match[1]) != position:
            raise _broken(url, f"it was asked for the bytes from {position} on, and sent others")
        skip = 0
    for chunk in _arriving(response, url):
        kept = chunk[skip:] if skip else chunk
        skip -= min(skip, len(chunk))
        if kept:
            yield kept


def _arriving(response: Response, url: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.receive(RECEIVE_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise of_exception(error, url) from error
        if not chunk:
            return
        yield chunk


def has_an_end(response: Response) -> bool:
    """Whether a cut can be told from the end of the body; without a length, closing the connection is the end."""
    return "content-length" in response.headers or "chunked" in response.headers.get("transfer-encoding", "").lower()


def _broken(url: str, cause: str) -> NetworkError:
    return NetworkError(
        "response-broken",
        f"{origin(url)[1]} did not answer properly",
        cause=f"{shown(url)}: {cause}",
        hint="the server, or a proxy on the way to it, is broken or hostile",
    )
