"""License expressions against what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm.core.licenses import allowed

ALLOW = ("MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0")


@pytest.mark.parametrize(
    "expression",
    [
        *("MIT", "mit", "MIT OR GPL-3.0-only", "GPL-3.0-only or MIT", "MIT AND Apache-2.0", "(MIT)"),
        *("GPL-2.0-only WITH Classpath-exception-2.0", "Apache-2.0 WITH LLVM-exception"),
        *("(GPL-3.0-only OR MIT) AND (Apache-2.0 OR X)", "GPL-3.0-only AND X OR MIT", "((MIT))"),
    ],
)
def test_allowed(expression: str) -> None:
    assert allowed(expression, ALLOW)


@pytest.mark.parametrize(
    "expression",
    [
        *("GPL-3.0-only", "MIT AND GPL-3.0-only", "GPL-2.0-only", "GPL-2.0-only WITH Other", "MIT2", ""),
        *("(MIT", "MIT)", "MIT MIT", "OR MIT", "MIT OR", "AND", "MIT WITH", "()", "MIT OR (", "X AND MIT OR Y"),
        "(" * 5000 + "MIT" + ")" * 5000,
    ],
)
def test_not_allowed(expression: str) -> None:
    assert not allowed(expression, ALLOW)


def test_what_is_not_stated_is_allowed_by_its_own_word() -> None:
    assert not allowed(None, ALLOW)
    assert allowed(None, ("noassertion",))


def test_a_text_that_is_no_expression_can_be_listed_as_it_is() -> None:
    assert allowed("the OpenRAIL (M) license", ("The OpenRAIL (M) License",))


words = st.sampled_from(["MIT", "X", "AND", "OR", "WITH", "(", ")"])


@given(st.lists(words, max_size=12).map(" ".join))
def test_allowing_more_never_refuses(expression: str) -> None:
    assert allowed(expression, ("MIT", "X")) >= allowed(expression, ("MIT",))
    assert not allowed(expression, ())
