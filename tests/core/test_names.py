"""Names, aliases, digests, versions: ``specs/names.md`` and the vectors in ``specs/vectors/words.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm import limits
from adpm.core.composition import parse_composition
from adpm.core.names import Alias, Channel, Digest, PackageName, parse_version
from adpm.core.requirement import Requirement
from adpm.core.source import parse_source
from adpm.errors import AdpmError
from adpm.formats.oci import package_path
from tests import strategies

_WORDS: Final = json.loads((Path(__file__).parents[2] / "specs/vectors/words.json").read_text(encoding="utf-8"))
_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "package-name": PackageName.parse,
    "alias": Alias.parse,
    "channel": Channel.parse,
    "digest": Digest.parse,
    "version": parse_version,
    "requirement": Requirement.parse,
    "composition": parse_composition,
    "path": package_path,
    "source": parse_source,
}


def test_every_kind_of_word_has_vectors() -> None:
    assert set(_WORDS) == set(_PARSERS)
    assert all(_WORDS[kind]["valid"] and _WORDS[kind]["invalid"] for kind in _WORDS)


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k in _WORDS for t in _WORDS[k]["valid"]])
def test_valid_words_are_read_and_written_back(kind: str, text: str) -> None:
    assert str(_PARSERS[kind](text)) == text


@pytest.mark.parametrize(("kind", "text", "code"), [(k, t, c) for k in _WORDS for t, c in _WORDS[k]["invalid"]])
def test_invalid_words_are_refused_with_their_code(kind: str, text: str, code: str) -> None:
    with pytest.raises(AdpmError) as caught:
        _PARSERS[kind](text)
    assert caught.value.code == code
    assert caught.value.hint


@given(st.sampled_from(sorted(_PARSERS)), st.text() | st.from_regex(r"[a-z0-9.@:=<>/(), -]{0,40}", fullmatch=True))
def test_any_text_is_read_or_refused(kind: str, text: str) -> None:
    try:
        value = _PARSERS[kind](text)
    except AdpmError as error:
        message = str(error)
    else:
        message = ""
        assert _PARSERS[kind](str(value)) == value
    assert all(c.isprintable() or c == "\n" for c in message)


def test_name_limits_are_exact() -> None:
    longest = "a" * limits.NAME_CHARACTERS
    assert PackageName.parse(longest) == longest
    with pytest.raises(AdpmError, match="not a package name") as caught:
        PackageName.parse(longest + "a")
    assert caught.value.cause == f"it has 129 characters, at most {limits.NAME_CHARACTERS} are allowed"
    assert PackageName.parse("/".join("abcd"))
    with pytest.raises(AdpmError) as caught:
        PackageName.parse("/".join("abcde"))
    assert caught.value.cause == "it has 5 parts, at most 4 are allowed"


def test_version_limit_is_exact() -> None:
    longest = "1" * limits.VERSION_CHARACTERS
    assert str(parse_version(longest)) == longest
    with pytest.raises(AdpmError, match="is not a version"):
        parse_version(longest + "1")


@pytest.mark.parametrize(("text", "hint"), [("v1.0", "'1.0'"), ("1.0-RC1", "'1.0rc1'"), ("1.0+cpu", "'1.0'")])
def test_a_version_that_could_be_meant_is_named(text: str, hint: str) -> None:
    with pytest.raises(AdpmError) as caught:
        parse_version(text)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_digest_shows_its_parts() -> None:
    digest = Digest.of(b"")
    assert digest == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest.hex == digest[7:]
    assert digest.short == "e3b0c44298fc"


@given(strategies.package_names, strategies.aliases, strategies.versions)
def test_what_is_written_is_read(name: PackageName, alias: Alias, version: Any) -> None:
    assert PackageName.parse(str(name)) == name
    assert Alias.parse(str(alias)) == alias
    assert parse_version(str(version)) == version
