"""The composition grammar of ``specs/names.md``."""

from __future__ import annotations

import pytest
from hypothesis import given

from adpm import limits
from adpm.core.composition import Block, Composition, leaves, parse_composition
from adpm.errors import CompositionError
from tests import strategies


@given(strategies.compositions())
def test_text_and_value_are_one(composition: Composition) -> None:
    assert parse_composition(str(composition)) == composition
    assert str(parse_composition(str(composition))) == str(composition)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sst", "sst"),
        ("stack", "stack"),
        ("lang/en", "lang/en"),
        (" stack( en,sst )\n", Block("stack", ("en", "sst"))),
        ("fuse(a, stack(b, c))", Block("fuse", ("a", Block("stack", ("b", "c"))))),
        ("split(a: 64, b: 1e6)", Block("split", ("a", "b"), (64.0, 1_000_000.0))),
        ("average(a: 0.1234567891, b: 1e-05)", Block("average", ("a", "b"), (0.1234567891, 1e-05))),
        ("skip( stack(a, b) :0, 11)", Block("skip", (Block("stack", ("a", "b")),), (0.0, 11.0))),
        ("batch(parallel(a, b): 2, b: 2)", Block("batch", (Block("parallel", ("a", "b")), "b"), (2.0, 2.0))),
    ],
)
def test_values(text: str, value: Composition) -> None:
    assert parse_composition(text) == value


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Block("split", ("a", "b"), (64, 1_000_000)), "split(a: 64, b: 1000000)"),
        (Block("average", ("a", "b"), (0.30, 1e-7)), "average(a: 0.3, b: 1e-07)"),
        (Block("average", ("a",), (1 / 3,)), "average(a: 0.3333333333333333)"),
    ],
)
def test_weights_keep_their_value(block: Block, text: str) -> None:
    assert str(block) == text
    assert parse_composition(text) == block


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 1, "expected an adapter's name"),
        ("   ", 4, "expected an adapter's name"),
        ("stack(", 7, "expected an adapter's name"),
        ("stack()", 7, "expected an adapter's name"),
        ("stack(a,  ,b)", 11, "expected an adapter's name"),
        ("stack(a b)", 9, "expected ',' or ')'"),
        ("stack(a, b", 11, "expected ',' or ')'"),
        ("stack(a))", 9, "expected the end"),
        ("a b", 3, "expected the end"),
        (
            "  chain(a, b)",
            3,
            "'chain' is no operator; operators are average, batch, fuse, parallel, skip, split, stack",
        ),
        ("split(a, b)", 8, "expected ':'"),
        ("stack(a: 1)", 8, "expected ',' or ')'"),
        ("split(a:  x)", 11, "'x' is not a number"),
        ("split(a: 1_000)", 10, "'1_000' is not a number"),
        ("split(a: nan)", 10, "'nan' is not a number"),
        ("split(a: 0.5)", 10, "'0.5' is not a positive whole number up to 2^53"),
        ("split(a: 0)", 10, "'0' is not a positive whole number up to 2^53"),
        ("average(a: 1e-999)", 12, "'1e-999' is not a positive number up to 2^53"),
        ("average(a: 1e999)", 12, "'1e999' is not a positive number up to 2^53"),
        ("average(a: -1)", 12, "expected a number"),
        ("skip(a)", 7, "expected ':'"),
        ("skip(a: 1, b)", 12, "'b' is not a number"),
        ("skip(a: 0.5)", 9, "'0.5' is not a positive whole number up to 2^53"),
        ("stack(ä)", 7, "expected an adapter's name"),
    ],
)
def test_errors_point_at_the_place(text: str, place: int, why: str) -> None:
    with pytest.raises(CompositionError) as caught:
        parse_composition(text)
    assert caught.value.code == "composition-invalid"
    assert caught.value.cause == f"at character {place}: {why}"


def _nested(levels: int) -> str:
    return "stack(" * levels + "a" + ")" * levels


def test_depth_limit_is_exact() -> None:
    assert parse_composition(_nested(limits.COMPOSITION_DEPTH))
    with pytest.raises(CompositionError, match=f"nests deeper than {limits.COMPOSITION_DEPTH} levels"):
        parse_composition(_nested(limits.COMPOSITION_DEPTH + 1))
    with pytest.raises(CompositionError, match="nests deeper"):
        parse_composition("stack(" * 100_000)


def test_leaf_limit_is_exact() -> None:
    most = ["a"] * limits.COMPOSITION_LEAVES
    assert parse_composition(f"stack({', '.join(most)})")
    with pytest.raises(CompositionError, match=f"names more than {limits.COMPOSITION_LEAVES} adapters"):
        parse_composition(f"stack({', '.join([*most, 'a'])})")


def test_leaves_are_listed_from_left_to_right() -> None:
    assert list(leaves(parse_composition("stack(c, fuse(a, b), a)"))) == ["c", "a", "b", "a"]
