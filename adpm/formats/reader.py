"""The typed, strict reader that every document goes through.

A *decoder* is a function from a :class:`Node` to a value; it reports a broken rule with ``node.fail``. Faults are
collected: a reader decodes the whole document, then :meth:`Document.finish` raises one ``DocumentError`` with all.

    root = document.root.fields()
    name = root.need("name", parsed(PackageName.parse))
    tags = root.get("tags", list_of(text), default=())
    root.close()                      # unknown keys are faults
    document.finish()                 # raises if there was any fault
    return Card(name=name, tags=tags)

Between a fault and ``finish`` a decoded variable may hold None against its type; nothing but ``finish`` may follow.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar, cast, overload

from adpm import limits
from adpm.errors import AdpmError, DocumentError, Fault

__all__ = [
    "Decoder",
    "Document",
    "Fields",
    "Node",
    "Plain",
    "flag",
    "integer",
    "list_of",
    "map_of",
    "number",
    "one_of",
    "parsed",
    "path_text",
    "text",
]

T = TypeVar("T")
K = TypeVar("K")

# What no text may hold: control characters besides tab and line feed, and halves of surrogate pairs.
_UNTEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBER: Final = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")


class Plain(str):
    """A YAML scalar written without quotes: text where text is meant, a number or boolean where that is meant."""

    __slots__ = ()


class _Broken(Exception):
    """Ends the decoding of one node; never leaves this module."""


class Document:
    """One parsed document, the faults found in it so far, and where its parts stand in the source."""

    def __init__(
        self, value: object, *, source: str, code: str, lines: Mapping[tuple[str | int, ...], int] | None = None
    ) -> None:
        self.source = source
        self.code = code
        self.faults: list[Fault] = []
        self.lines = lines or {}
        self.root = Node(self, (), value)

    def report(self, path: tuple[str | int, ...], message: str) -> None:
        fault = Fault(path_text(path), message, self.line(path))
        if fault not in self.faults[-1:]:  # a mapping's key may be judged twice: as a key and as part of a value
            self.faults.append(fault)

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """The 1-based line on which the part at ``path``, or what it is missing from, begins; None in JSON."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def finish(self, hint: str | None = None) -> None:
        """Raise ``DocumentError`` with all faults reported so far, by line if lines are known; return if none."""
        if self.faults:
            shown = sorted(self.faults, key=lambda fault: fault.line or 0)[: limits.DOCUMENT_FAULTS]
            if len(self.faults) > len(shown):
                shown.append(Fault("", f"and {len(self.faults) - len(shown)} more"))
            raise DocumentError(self.code, self.source, shown, hint=hint)


def path_text(path: tuple[str | int, ...]) -> str:
    """``("adapters", "sst", 0)`` as ``adapters.sst[0]``; keys that don't print are quoted."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            word = part[:80]
            shown = word if word.isprintable() and word else repr(word)
            out += f".{shown}" if out else shown
    return out


class Node:
    """A value of the document together with its path."""

    __slots__ = ("document", "path", "value")

    def __init__(self, document: Document, path: tuple[str | int, ...], value: object) -> None:
        self.document = document
        self.path = path
        self.value = value

    @property
    def line(self) -> int | None:
        return self.document.line(self.path)

    def fail(self, message: str) -> NoReturn:
        """Report a fault here and end the decoding of this node."""
        self.document.report(self.path, message)
        raise _Broken

    def decode(self, decoder: Decoder[T]) -> T | None:
        """The decoded value, or None after a fault was reported."""
        try:
            return decoder(self)
        except _Broken:
            return None
        except AdpmError as error:
            self.document.report(self.path, str(error) if error.hint is None else f"{error} ({error.hint})")
            return None

    def fields(self) -> Fields:
        if not isinstance(self.value, dict):
            self.fail(f"expected a mapping, found {kind_of(self.value)}")
        return Fields(self)

    def children(self) -> Iterator[Node]:
        """The values of a mapping; the key is the last part of each one's path."""
        if not isinstance(self.value, dict):
            self.fail(f"expected a mapping, found {kind_of(self.value)}")
        for key, value in self.value.items():
            yield Node(self.document, (*self.path, str(key)), value)

    def elements(self) -> Iterator[Node]:
        if not isinstance(self.value, list):
            self.fail(f"expected a list, found {kind_of(self.value)}")
        for i, value in enumerate(self.value):
            yield Node(self.document, (*self.path, i), value)


Decoder = Callable[[Node], T]


class Fields:
    """A mapping whose keys are known in advance."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._values = cast("dict[str, object]", node.value)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def need(self, key: str, decoder: Decoder[T]) -> T:
        """The value at ``key``; a fault if it is missing."""
        self._known.append(key)
        if key not in self._values:
            self.node.document.report((*self.node.path, key), "is missing")
            return cast("T", None)
        return cast("T", self._child(key).decode(decoder))

    @overload
    def get(self, key: str, decoder: Decoder[T]) -> T | None: ...
    @overload
    def get(self, key: str, decoder: Decoder[T], *, default: T) -> T: ...
    def get(self, key: str, decoder: Decoder[T], *, default: T | None = None) -> T | None:
        """The value at ``key``, or ``default`` where it is absent or null."""
        self._known.append(key)
        if self._values.get(key) is None:
            return default
        return self._child(key).decode(decoder)

    def close(self) -> None:
        """Report every key that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                meant = (
                    f"; did you mean {close[0]!r}?" if close else f"; known keys are {', '.join(sorted(self._known))}"
                )
                self.node.document.report((*self.node.path, key), f"unknown key{meant}")

    def _child(self, key: str) -> Node:
        return Node(self.node.document, (*self.node.path, key), self._values[key])


def kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def text(node: Node) -> str:
    """A text of 1 to ``limits.STRING_CHARACTERS`` characters, without control characters but tab and line feed."""
    if not isinstance(node.value, str):
        node.fail(f"expected a text, found {kind_of(node.value)}")
    if not node.value:
        node.fail("is empty")
    if len(node.value) > limits.STRING_CHARACTERS:
        node.fail(f"has {len(node.value)} characters, at most {limits.STRING_CHARACTERS} are allowed")
    if found := _UNTEXT.search(node.value):
        node.fail(f"has the control character {found[0]!r}")
    return str(node.value)


def _scalar(node: Node) -> object:
    """The value, a plain YAML scalar being read as the JSON scalar that it spells."""
    if not isinstance(node.value, Plain):
        return node.value
    if node.value in ("true", "false"):
        return node.value == "true"
    match = _NUMBER.match(node.value)
    if match is None:
        return node.value
    if match[2] or match[3]:
        return float(node.value)
    if len(node.value) > 17 or abs(value := int(node.value)) > limits.INTEGER_MAX:
        node.fail(f"the integer {node.value[:40]} is beyond 2^53")
    return value


def flag(node: Node) -> bool:
    value = _scalar(node)
    if not isinstance(value, bool):
        node.fail(f"expected true or false, found {kind_of(value)}")
    return value


def integer(low: int, high: int = limits.INTEGER_MAX) -> Decoder[int]:
    def decode(node: Node) -> int:
        value = _scalar(node)
        if isinstance(value, bool) or not isinstance(value, int):
            node.fail(f"expected a whole number, found {kind_of(value)}")
        if not low <= value <= high:
            node.fail(f"{value} is not between {low} and {high}")
        return value

    return decode


def number(node: Node) -> float:
    """A finite number."""
    value = _scalar(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        node.fail(f"expected a number, found {kind_of(value)}")
    if not math.isfinite(value):
        node.fail("is not a finite number")
    return value


def one_of(*words: str) -> Decoder[Any]:
    """One of ``words``; typed Any so that a caller's Literal fits."""

    def decode(node: Node) -> str:
        value = text(node)
        if value not in words:
            close = difflib.get_close_matches(value, words, n=1)
            node.fail(f"{value!r} is none of {', '.join(words)}" + (f"; did you mean {close[0]!r}?" if close else ""))
        return value

    return decode


def parsed(parse: Callable[[str], T]) -> Decoder[T]:
    """A text that ``parse`` turns into a value; its ``AdpmError`` becomes the fault."""
    return lambda node: parse(text(node))


def list_of(decoder: Decoder[T], *, most: int = limits.LIST_ENTRIES) -> Decoder[tuple[T, ...]]:
    """A list of at most ``most`` entries; entries with faults are reported and left out."""

    def decode(node: Node) -> tuple[T, ...]:
        elements = list(node.elements())
        if len(elements) > most:
            node.fail(f"has {len(elements)} entries, at most {most} are allowed")
        values = [element.decode(decoder) for element in elements]
        return tuple(value for value in values if value is not None)

    return decode


def map_of(key: Callable[[str], K], decoder: Decoder[T]) -> Decoder[dict[K, T]]:
    """A mapping whose keys are data: each is parsed by ``key``; entries with faults are reported and left out."""

    def decode(node: Node) -> dict[K, T]:
        out: dict[K, T] = {}
        for child in node.children():
            parsed_key = child.decode(lambda n: key(str(n.path[-1])))
            value = child.decode(decoder)
            if parsed_key is not None and value is not None:
                out[parsed_key] = value
        return out

    return decode
