"""The YAML reader: no surprises, from either of PyYAML's parsers."""

from __future__ import annotations

import pytest
import yaml

from adpm import limits
from adpm.errors import DocumentError
from adpm.formats import yaml as adpm_yaml
from adpm.formats.reader import Plain
from adpm.formats.yaml import YamlDocument, open_yaml


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with both parsers: wheels without libyaml exist."""
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(adpm_yaml, "_LOADER", loader)


def _open(text: str | bytes, limit: int = 1 << 20) -> YamlDocument:
    data = text if isinstance(text, bytes) else text.encode()
    return open_yaml(data, source="x.yaml", code="x-invalid", limit=limit)


def _why(text: str | bytes, limit: int = 1 << 20) -> str:
    with pytest.raises(DocumentError) as caught:
        _open(text, limit)
    assert caught.value.code == "x-invalid"
    return str(caught.value.faults[0])


@pytest.mark.parametrize(
    "spelled",
    ["no", "yes", "on", "off", "n", "y", "true", "false", "True", "1.10", "1.0", "007", "0o7", "0x1F", "0b1", "1_000",
     "1e3", "12:30:45", "2026-01-31", "2026-01-31T12:00:00Z", ".nan", ".inf", "-.inf", "Null", "NULL", "=", "+1", ".5"],
)  # fmt: skip
def test_plain_scalars_are_what_they_look_like(spelled: str) -> None:
    for text in (f"a: {spelled}", f"a: {spelled} # comment", f"{{a: {spelled} }}"):
        value = _open(text).root.value
        assert value == {"a": spelled}
        assert isinstance(value["a"], Plain)
    assert _open(f"- {spelled}").root.value == [spelled]


@pytest.mark.parametrize("spelled", ["", "~", "null"])
def test_nulls(spelled: str) -> None:
    assert _open(f"a: {spelled}").root.value == {"a": None}
    assert _open(spelled).root.value is None


@pytest.mark.parametrize("quoted", ['"{}"', "'{}'"])
@pytest.mark.parametrize("word", ["", "~", "null", "true", "1"])
def test_quoted_scalars_are_texts(quoted: str, word: str) -> None:
    value = _open("a: " + quoted.format(word)).root.value
    assert value == {"a": word}
    assert isinstance(value, dict)
    assert type(value["a"]) is str


@pytest.mark.parametrize("key", ["no", "null", "~", "1", "1.0", "true", "''"])
def test_keys_are_texts(key: str) -> None:
    assert _open(f"{key}: x").root.value == {key.strip("'"): "x"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x b", "document (line 1): uses an anchor or alias; write the value out"),
        ("\na: *x", "document (line 2): uses an anchor or alias; write the value out"),
        ("a: &x {}", "document (line 1): uses an anchor or alias; write the value out"),
        ("&x a: b", "document (line 1): uses an anchor or alias; write the value out"),
        ("a: !!int 1", "document (line 1): uses the tag tag:yaml.org,2002:int"),
        ("a: ! b", "document (line 1): uses the tag !"),
        ("!!map a: b", "document (line 1): uses the tag tag:yaml.org,2002:map"),
        ("a: !!python/none ''", "document (line 1): uses the tag tag:yaml.org,2002:python/none"),
        ("<<: {a: b}", "document (line 1): uses a merge key; write the values out"),
        ("a: b\n---\nc: d", "document (line 2): has a second document"),
        ("a: b\n\na: c", "document (line 3): has the key 'a' twice"),
        ("x:\n  a: b\n  'a': c", "document (line 3): has the key 'x.a' twice"),
        ("? [a]\n: b", "document (line 1): has a mapping or list as a key, on line 1"),
        ("{a: b}: c", "document (line 1): has a mapping or list as a key, on line 1"),
        ("\ufeffa: b", "document: begins with a byte order mark; save it as UTF-8 without one"),
        (b"a: \xff", "document: is not UTF-8 at byte 3"),
    ],
)  # fmt: skip
def test_refused(text: str | bytes, why: str) -> None:
    assert _why(text) == why


@pytest.mark.parametrize(
    "text",
    [
        "a: [b",
        "a: b: c",
        "a:\n\t- b",
        "- a\nb",
        "a: 'b",
        'a: "\\q"',
        "a: \x00",
        "a: \x07",
        "%YAML 9.9\n---\na",
        "@a",
        "`a",
    ],
)
def test_not_yaml(text: str) -> None:
    assert "is not YAML" in _why(text)


def test_limits_are_exact() -> None:
    assert _open("a: bc", limit=5).root.value == {"a": "bc"}
    assert _why("a: bcd", limit=5) == "document: has 6 bytes, at most 5 are allowed"
    depth = limits.DOCUMENT_DEPTH
    assert _open("[" * depth + "]" * depth).root.value
    assert "nests deeper than 64 levels" in _why("[" * (depth + 1) + "]" * (depth + 1))
    assert "nests deeper than 64 levels" in _why("".join(" " * i + "a:\n" for i in range(depth + 1)) + " " * 99 + "b")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000])
def test_deep_documents_are_refused_early(text: str) -> None:
    assert "nests deeper than 64 levels" in _why(text)


def test_every_part_has_its_line() -> None:
    document = _open("# c\na: x\nb:\n  - y\n  - {z: 1,\n     w: 2}\n")
    lines = {path: document.line(path) for path in [(), ("a",), ("b",), ("b", 0), ("b", 1), ("b", 1, "w"), ("c",)]}
    assert lines == {(): 2, ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "w"): 6, ("c",): 2}
