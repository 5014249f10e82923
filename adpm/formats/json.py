"""Strict JSON in, canonical JSON out.

Reading refuses what readers elsewhere disagree about: duplicate keys, NaN and infinities, integers beyond 2^53,
invalid UTF-8 and lone surrogates, a byte order mark, and anything nested or larger than its limit.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from adpm import limits
from adpm.errors import DocumentError, Fault
from adpm.formats.reader import Document

__all__ = ["canonical", "open_json", "pretty"]

# What stands between brackets and commas. Possessive, and at home with an unclosed text at the end, so that no input
# makes it look at a byte twice.
_CONTENT: Final = re.compile(rb'(?:[^"\[\]{},]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_RUNS_MAX: Final = 2 * (limits.DOCUMENT_PARTS + 1)  # of content; each but the first has a comma or bracket before it
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


class _Refused(ValueError):
    pass


def open_json(data: bytes, *, source: str, code: str, limit: int) -> Document:
    """Parse ``data`` into a document for the typed reader.

    ``source`` names the document in errors, ``code`` is the code they carry, ``limit`` its greatest size in bytes.
    """
    return Document(parse_json(data, source=source, code=code, limit=limit), source=source, code=code)


def parse_json(data: bytes, *, source: str, code: str, limit: int) -> Any:
    """The JSON value in ``data``, under the rules of this module; raises ``DocumentError``."""
    try:
        if len(data) > limit:
            raise _Refused(f"has {len(data)} bytes, at most {limit} are allowed")
        _check_structure(data)
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
        _check_surrogates(data, value)
    except _Refused as refused:
        why = str(refused)
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        why = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    else:
        return value
    raise DocumentError(code, source, [Fault("", why)])


def _check_structure(data: bytes) -> None:
    """Refuse deep nesting and too many values before the parser makes them; what stands inside texts does not count."""
    openings = data.count(b"[") + data.count(b"{")
    if openings <= limits.DOCUMENT_DEPTH and data.count(b",") + openings <= limits.DOCUMENT_PARTS:
        return
    rest, runs = _CONTENT.subn(b"", data, count=_RUNS_MAX)
    nested = rest.translate(_SQUARE, b",")
    openings, closings = nested.count(b"["), nested.count(b"]")
    if max(openings + rest.count(b","), closings) > limits.DOCUMENT_PARTS or runs == _RUNS_MAX:
        raise _Refused(f"has more than {limits.DOCUMENT_PARTS} values")
    # Take away the innermost level, as often as levels are allowed. Brackets without a partner stay: of these, too,
    # there may be no more, though such a document will turn out to be none.
    for _ in range(limits.DOCUMENT_DEPTH):
        nested = nested.replace(b"[]", b"")
    if b"[]" in nested or nested.count(b"[") > limits.DOCUMENT_DEPTH:
        raise _Refused(f"nests deeper than {limits.DOCUMENT_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"has the key {key[:80]!r} twice in one object")
            seen.add(key)
    return out


def _constant(word: str) -> NoReturn:
    raise _Refused(f"has {word}, which is not JSON")


def _integer(word: str) -> int:
    if len(word) > 17 or abs(value := int(word)) > limits.INTEGER_MAX:
        raise _Refused(f"has the integer {word[:40]}, beyond 2^53")
    return value


def _float(word: str) -> float:
    value = float(word)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"has the number {word[:40]}, which is too large")
    return value


def _check_surrogates(data: bytes, value: Any) -> None:
    """Lone surrogates can only come from ``\\u`` escapes; they are not text and can't be written back."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("has a lone surrogate, which is not text") from None


def canonical(value: object) -> bytes:
    """One spelling for a value: sorted keys, no white space, UTF-8, no trailing newline. For what is hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def pretty(value: object) -> bytes:
    """One spelling for people and git: sorted keys, two spaces of indent, UTF-8, a trailing newline."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8")
