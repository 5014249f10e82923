"""The typed reader: every fault with its path, all at once, with what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm import limits
from adpm.core.names import Alias, PackageName
from adpm.errors import DocumentError, Fault, UsageError
from adpm.formats.reader import (
    Decoder,
    Document,
    Plain,
    flag,
    integer,
    list_of,
    map_of,
    number,
    one_of,
    parsed,
    path_text,
    text,
)


def _decode(value: object, decoder: Decoder[Any]) -> Any:
    document = Document(value, source="x", code="x-invalid")
    out = document.root.decode(decoder)
    document.finish()
    return out


def _faults(value: object, decoder: Decoder[Any]) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        _decode(value, decoder)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("decoder", "value", "out"),
    [
        (text, "no", "no"),
        (text, Plain("1.10"), "1.10"),
        (text, "a\tb\nc", "a\tb\nc"),
        (flag, True, True),
        (flag, Plain("false"), False),
        (integer(0), 7, 7),
        (integer(0), Plain("7"), 7),
        (integer(-5, 5), Plain("-5"), -5),
        (number, 1.5, 1.5),
        (number, Plain("1e3"), 1000.0),
        (number, Plain("-0.5E-2"), -0.005),
        (number, Plain("1.10"), 1.1),
        (one_of("a", "b"), "b", "b"),
        (parsed(PackageName.parse), "a/b", "a/b"),
        (list_of(text), ["a", "b"], ("a", "b")),
        (map_of(Alias.parse, number), {"a": 1}, {"a": 1}),
    ],
)
def test_decoded(decoder: Decoder[Any], value: object, out: object) -> None:
    decoded = _decode(value, decoder)
    assert decoded == out
    assert type(decoded) is not Plain


@pytest.mark.parametrize(
    ("decoder", "value", "fault"),
    [
        (text, None, "expected a text, found null"),
        (text, 1, "expected a text, found the number 1"),
        (text, True, "expected a text, found a boolean"),
        (text, [], "expected a text, found a list"),
        (text, "", "is empty"),
        (text, "a" * 100_001, "has 100001 characters, at most 100000 are allowed"),
        (text, "a\x1b[31m", "has the control character '\\x1b'"),
        (text, "a\0", "has the control character '\\x00'"),
        (text, "a\rb", "has the control character '\\r'"),
        (text, "a\x85", "has the control character '\\x85'"),
        (text, "a\ud800", "has the control character '\\ud800'"),
        (flag, 1, "expected true or false, found the number 1"),
        (flag, Plain("yes"), "expected true or false, found the text 'yes'"),
        (flag, "true", "expected true or false, found the text 'true'"),
        (integer(0), True, "expected a whole number, found a boolean"),
        (integer(0), 1.0, "expected a whole number, found the number 1.0"),
        (integer(0), Plain("1e3"), "expected a whole number, found the number 1000.0"),
        (integer(0), "1", "expected a whole number, found the text '1'"),
        (integer(1, 9), 10, "10 is not between 1 and 9"),
        (integer(0), Plain("9" * 5000), f"the integer {'9' * 40} is beyond 2^53"),
        (number, Plain("9007199254740992"), "the integer 9007199254740992 is beyond 2^53"),
        (number, float("nan"), "is not a finite number"),
        (number, Plain("1e999"), "is not a finite number"),
        (number, False, "expected a number, found a boolean"),
        (one_of("peft", "adapterhub"), "pefft", "'pefft' is none of peft, adapterhub; did you mean 'peft'?"),
        (one_of("peft", "adapterhub"), "zzz", "'zzz' is none of peft, adapterhub"),
        (list_of(text), "a", "expected a list, found the text 'a'"),
        (list_of(text, most=2), ["a", "b", "c"], "has 3 entries, at most 2 are allowed"),
        (map_of(str, text), [], "expected a mapping, found a list"),
    ],
)
def test_refused(decoder: Decoder[Any], value: object, fault: str) -> None:
    assert _faults(value, decoder) == [f"document: {fault}"]


@pytest.mark.parametrize(
    "spelled",
    ["0o7", "0x1F", "0b1", "1_000", ".5", "1.", "+1", "007", ".inf", "-.inf", ".nan", "nan", "inf", "infinity", "1:30",
     "2026-01-31", "~", "yes", "٣", "１", "1 000", "1e", "--1", ""],
)  # fmt: skip
def test_only_json_numbers_are_numbers(spelled: str) -> None:
    assert _faults(Plain(spelled), number) == [f"document: expected a number, found the text {spelled!r}"]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(1 - 2**53, 2**53 - 1))
def test_json_numbers_are_read_from_plain_scalars(value: float) -> None:
    assert _decode(Plain(repr(value)), number) == value


def test_all_faults_at_once_with_their_paths() -> None:
    def lower(word: str) -> str:
        if word != word.lower():
            raise UsageError("word-invalid", f"{word!r} is no good", hint=f"write {word.lower()!r}")
        return word

    def decode(node: Any) -> None:
        fields = node.fields()
        fields.need("name", parsed(lower))
        fields.need("size", integer(0))
        fields.get("tags", list_of(text))
        fields.get("scores", map_of(Alias.parse, number))
        fields.close()

    value = {"name": "A", "tags": ["a", 1, "", "b"], "scores": {"x": "y", "1": 2, "z": 3}, "nmae": 1, "zzz": 2}
    assert _faults(value, decode) == [
        "name: 'A' is no good (write 'a')",
        "size: is missing",
        "tags[1]: expected a text, found the number 1",
        "tags[2]: is empty",
        "scores.x: expected a number, found the text 'y'",
        "scores.1: '1' is not an alias (an alias is a letter followed by up to 63 letters, digits, '_' or '-')",
        "nmae: unknown key; did you mean 'name'?",
        "zzz: unknown key; known keys are name, scores, size, tags",
    ]


def test_null_is_absent_for_optional_keys_only() -> None:
    def decode(node: Any) -> tuple[Any, Any]:
        fields = node.fields()
        out = fields.get("a", text), fields.get("b", text, default="x")
        fields.close()
        return out

    assert _decode({"a": None}, decode) == (None, "x")
    assert _faults({"a": None}, lambda node: node.fields().need("a", text)) == ["a: expected a text, found null"]


def test_an_error_lists_a_bounded_number_of_faults() -> None:
    faults = _faults([1] * 250, list_of(text))
    assert len(faults) == limits.DOCUMENT_FAULTS + 1
    assert faults[-1] == "document: and 150 more"


def test_faults_stand_by_line() -> None:
    document = Document({}, source="x", code="x-invalid", lines={("b",): 2, ("a",): 7, (): 1})
    document.report(("a",), "late")
    document.report(("b", "c"), "inside b")
    document.report(("d",), "is missing")
    with pytest.raises(DocumentError) as caught:
        document.finish(hint="read the manual")
    assert caught.value.faults == (Fault("d", "is missing", 1), Fault("b.c", "inside b", 2), Fault("a", "late", 7))
    assert str(caught.value) == (
        "x is not valid (3 faults): d (line 1): is missing\nb.c (line 2): inside b\na (line 7): late"
    )
    assert caught.value.hint == "read the manual"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), ""),
        (("adapters", "sst", 0), "adapters.sst[0]"),
        ((0, 1), "[0][1]"),
        (("packages", "text/sst-2"), "packages.text/sst-2"),
        (("a\nerror[x]: y",), "'a\\nerror[x]: y'"),
        (("a", "\x1b[31m"), "a.'\\x1b[31m'"),
        (("a", ""), "a.''"),
        (("k" * 100_000,), "k" * 80),
    ],
)
def test_paths_cannot_be_mistaken(path: tuple[str | int, ...], shown: str) -> None:
    assert path_text(path) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_a_hostile_key_cannot_drive_a_terminal(value: dict[str, str]) -> None:
    document = Document(value, source="x\x1b[2J", code="x-invalid")
    document.root.decode(lambda node: node.fields().close())
    if value:
        with pytest.raises(DocumentError) as caught:
            document.finish()
        lines = str(caught.value).split("\n")
        assert all(line.isprintable() for line in lines)
        assert len(lines) == len(value)
