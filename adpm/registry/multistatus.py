"""What a WebDAV server lists: the answer to ``PROPFIND`` (RFC 4918, 13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit
from xml.parsers import expat

from adpm.errors import DocumentError, Fault

__all__ = ["PROPFIND", "Entry", "read_listing"]

PROPFIND: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/></prop></propfind>'
)


@dataclass(slots=True)
class Entry:
    """A member of a collection; ``size`` where the server says it."""

    name: str
    collection: bool
    size: int | None


@dataclass(slots=True)
class _Found:
    href: str = ""
    collection: bool = False
    length: str = ""


@dataclass(slots=True)
class _Parser:
    """Collects responses; the only thing that it keeps of a document is what adpm asks for."""

    found: list[_Found] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    depth: int = 0

    def start(self, name: str, _: dict[str, str]) -> None:
        self.depth += 1
        self.text.clear()
        if name == "DAV: response":
            self.found.append(_Found())
        elif name == "DAV: collection" and self.found:
            self.found[-1].collection = True

    def end(self, name: str) -> None:
        if name == "DAV: href" and self.found and not self.found[-1].href:
            self.found[-1].href = "".join(self.text).strip()
        elif name == "DAV: getcontentlength" and self.found:
            self.found[-1].length = "".join(self.text).strip()
        self.text.clear()
        self.depth -= 1

    def data(self, text: str) -> None:
        self.text.append(text)


class _Doctype(Exception):
    pass


def _no_doctype(*_: object) -> None:
    raise _Doctype  # entities could expand without end


def read_listing(data: bytes, url: str) -> tuple[Entry | None, list[Entry]]:
    """What lies at ``url`` itself, and what the collection there holds.

    Raises ``DocumentError`` (``registry-invalid``).
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    seen = _Parser()
    parser.StartElementHandler, parser.EndElementHandler = seen.start, seen.end
    parser.CharacterDataHandler = seen.data
    parser.StartDoctypeDeclHandler = _no_doctype
    fault = None
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        fault = f"is no XML: {expat.errors.messages[error.code]} at line {error.lineno}"
    except _Doctype:
        fault = "has a document type, which no listing needs"
    own, entries = (None, []) if fault else _sorted(seen.found, url)
    if fault is None and seen.found and own is None:
        fault = "lists other addresses than the one that was asked: a proxy on the way may rewrite only half of them"
    if fault is not None:
        raise DocumentError(
            "registry-invalid", f"the listing of {url}", [Fault("", fault)], hint="ask who runs that server"
        )
    return own, entries


def _sorted(found: list[_Found], url: str) -> tuple[Entry | None, list[Entry]]:
    base = unquote(urlsplit(url).path).rstrip("/") + "/"
    own, entries = None, []
    for response in found:
        path = unquote(urlsplit(urljoin(url, response.href)).path)
        name = path.rstrip("/").removeprefix(base)
        length = response.length
        size = int(length) if length.isascii() and length.isdigit() and len(length) <= 18 else None
        if path.rstrip("/") + "/" == base:
            own = Entry("", response.collection, size)
        elif path.startswith(base) and "/" not in name and name not in {"", ".", ".."}:
            entries.append(Entry(name, response.collection, size))
    return own, entries
