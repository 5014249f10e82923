"""The requirement grammar of ``specs/names.md``."""

from __future__ import annotations

import pytest
from hypothesis import given
from packaging.specifiers import SpecifierSet

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.requirement import Requirement, parse_specifiers
from adpm.errors import UsageError
from tests import strategies

_DIGEST = Digest.of(b"")


@given(strategies.wanted_requirements)
def test_text_and_value_are_one(requirement: Requirement) -> None:
    text = str(requirement)
    assert Requirement.parse(text) == requirement
    assert str(Requirement.parse(text)) == text
    assert Requirement.parse(f"{requirement.name} {requirement.constraint}") == requirement


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("text/sst-2", "text/sst-2"),
        ("  text/sst-2  ", "text/sst-2"),
        ("text/sst-2>=1.2,<2", "text/sst-2 >=1.2,<2"),
        ("text/sst-2   <2 , >= 1.2", "text/sst-2 >=1.2,<2"),
        ("a !=1.3,>=1,!=1.2,~=1.0,==1.*", "a ==1.*,~=1.0,>=1,!=1.2,!=1.3"),
        ("a >=1,>=1", "a >=1"),
        (f"a @ {_DIGEST}", f"a@{_DIGEST}"),
    ],
)
def test_canonical_spelling(text: str, canonical: str) -> None:
    assert str(Requirement.parse(text)) == canonical


def test_parts() -> None:
    assert Requirement.parse("a >=1") == Requirement(PackageName("a"), SpecifierSet(">=1"))
    assert Requirement.parse(f"a@{_DIGEST}") == Requirement(PackageName("a"), digest=_DIGEST)
    assert Requirement.parse(f"a@{_DIGEST}").constraint == f"@{_DIGEST}"


def test_order_of_the_specifiers_does_not_matter() -> None:
    assert str(Requirement.parse("a <2,>=1")) == str(Requirement.parse("a >=1,<2"))


def test_a_long_constraint_is_refused_before_a_version_could_overflow() -> None:
    most = ">=" + "9" * (limits.CONSTRAINT_CHARACTERS - 2)
    assert not parse_specifiers(most).contains("1.0")
    with pytest.raises(UsageError) as caught:
        parse_specifiers(most + "9")
    assert caught.value.code == "constraint-invalid"
    assert len(str(caught.value)) < 200
