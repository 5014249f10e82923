"""The strict JSON reader: what it refuses, and that refusing is cheap."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from adpm import limits
from adpm.errors import DocumentError
from adpm.formats.json import canonical, open_json, parse_json, pretty


def _read(data: bytes, limit: int = 64 << 20) -> Any:
    return parse_json(data, source="x.json", code="x-invalid", limit=limit)


def _why(data: bytes, limit: int = 64 << 20) -> str:
    with pytest.raises(DocumentError) as caught:
        _read(data, limit)
    assert caught.value.code == "x-invalid"
    assert caught.value.source == "x.json"
    assert len(caught.value.faults) == 1
    return caught.value.faults[0].message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":1}', "has the key 'a' twice in one object"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "has the key 'a' twice in one object"),
        (b"[NaN]", "has NaN, which is not JSON"),
        (b"[Infinity]", "has Infinity, which is not JSON"),
        (b"[-Infinity]", "has -Infinity, which is not JSON"),
        (b"9007199254740992", "has the integer 9007199254740992, beyond 2^53"),
        (b"-9007199254740992", "has the integer -9007199254740992, beyond 2^53"),
        (b"9" * 5000, f"has the integer {'9' * 40}, beyond 2^53"),
        (b"1e999", "has the number 1e999, which is too large"),
        (b"-1e999", "has the number -1e999, which is too large"),
        (b'"\xff"', "is not UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "is not UTF-8 at byte 1"),
        (b'"\\ud800"', "has a lone surrogate, which is not text"),
        (b'{"\\uDfff":1}', "has a lone surrogate, which is not text"),
        (b'["\\ud83d \\ude00"]', "has a lone surrogate, which is not text"),
        (b"\xef\xbb\xbf1", "is not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at line 1, column 1"),
        (b"", "is not JSON: Expecting value at line 1, column 1"),
        (b"[1,\n2,]", "is not JSON: Illegal trailing comma before end of array at line 2, column 2"),
        (b"{'a':1}", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b"1 2", "is not JSON: Extra data at line 1, column 3"),
        (b'"a\nb"', "is not JSON: Invalid control character at at line 1, column 3"),
    ],
)
def test_refused(data: bytes, why: str) -> None:
    if "trailing comma" in why:  # newer Pythons say what the comma is
        assert _why(data).startswith("is not JSON: ")
    else:
        assert _why(data) == why


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"9007199254740991", 2**53 - 1),
        (b"-9007199254740991", 1 - 2**53),
        (b"-0", 0),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b' {"a" : [ ] }\r\n\t', {"a": []}),
        (b'"\\u0000"', "\0"),
    ],
)
def test_accepted(data: bytes, value: object) -> None:
    assert _read(data) == value


def test_the_size_limit_is_exact() -> None:
    assert _read(b'"aa"', limit=4) == "aa"
    assert _why(b'"aaa"', limit=4) == "has 5 bytes, at most 4 are allowed"


def test_the_depth_limit_is_exact() -> None:
    depth = limits.DOCUMENT_DEPTH
    assert _read(b"[" * depth + b"]" * depth)
    assert _read(b'{"a":' * depth + b"1" + b"}" * depth)
    assert _why(b"[" * (depth + 1) + b"]" * (depth + 1)) == "nests deeper than 64 levels"
    assert _why(b'[{"a":' * depth) == "nests deeper than 64 levels"


def test_brackets_in_texts_and_siblings_do_not_count() -> None:
    assert len(_read(b'["' + b"[" * 1000 + b'"]')[0]) == 1000
    assert _read(b'["\\"' + b"[" * 1000 + b'","\\\\",' + b"[]," * 100 + b"1]")[1] == "\\"


def test_the_limit_of_values_is_exact() -> None:
    most = limits.DOCUMENT_PARTS
    assert len(_read(b"[" + b"1," * (most - 1) + b"1]")) == most
    assert _why(b"[" + b"1," * most + b"1]") == f"has more than {most} values"
    assert len(_read(b'["' + b"," * (2 * most) + b'"]')[0]) == 2 * most


_MB = 1 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 70 + b'"' + b'\\"' * _MB,
        b"[" * 70 + b'"' + b"\\" * _MB,
        b"[" * 20 * _MB,
        b"[" + b"[]," * 5 * _MB,
        b'["' + b"[" * 10 * _MB,
        b"{" + b'"a":{},' * 3 * _MB,
        b"[" * 64 + b"]" * 20 * _MB + b"[" * 65,
        b"[" + b'""' * 5 * _MB + b"[" * 65,
        b"1" * 5 * _MB,
        b"[" + b"1" * 5000 + b"]",
        b"[1e" + b"9" * _MB + b"]",
        b'{"a":' * _MB,
    ],
    ids=lambda data: f"{bytes(data[:12])!r}x{len(data)}",
)
def test_hostile_documents_are_refused_cheaply(data: bytes) -> None:
    """A reader that looks at bytes twice would not come back."""
    assert _why(data)


@pytest.mark.parametrize("data", [b"[" * 64 + b'"' + b'\\"' * 8 * _MB, b'["' + b"[" * 16 * _MB, b"1" * 16 * _MB])
def test_memory_follows_the_size_of_the_document(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert _why(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(data) + 64 * _MB


def test_canonical_spelling() -> None:
    value = {"b": [1, 1.5, True, None], "a": 'ä"\n\x1f大\x7f'}
    assert canonical(value) == '{"a":"ä\\"\\n\\u001f大\x7f","b":[1,1.5,true,null]}'.encode()
    assert pretty({"b": [], "a": {"x": 1}}) == b'{\n  "a": {\n    "x": 1\n  },\n  "b": []\n}\n'


def test_a_document_knows_its_source() -> None:
    document = open_json(b"{}", source="x.json", code="x-invalid", limit=10)
    assert (document.source, document.code, document.root.value) == ("x.json", "x-invalid", {})
