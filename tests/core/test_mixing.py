"""Which adapters may act together."""

from __future__ import annotations

import pytest
from hypothesis import given

from adpm.core.composition import Block, Composition, leaves, parse_composition
from adpm.core.mixing import Member, check_fusions, check_mixing, fusion_for
from adpm.core.release import Method
from adpm.errors import CompositionError
from tests import strategies

# First letter: b a bottleneck, l LoRA, r ReFT, x AdapterHub's prefix, q PEFT's, p a prompt, u a method that is not
# known; capital: a head.
METHODS = {
    "b": Method("adapterhub", "bottleneck"),
    "l": Method("peft", "lora"),
    "r": Method("adapterhub", "reft"),
    "x": Method("adapterhub", "prefix_tuning"),
    "q": Method("peft", "prefix_tuning"),
    "p": Method("peft", "prompt_tuning"),
    "u": Method("peft", "new_method"),
}


def member(name: str) -> Member:
    return Member(METHODS[name[0].lower()], name if name[0].isupper() else None)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "b",
            "P",
            "stack(b, l, r, x, u, B)",
            "fuse(b1, b2, u)",
            "stack(p, b)",
            "parallel(l, b, x)",
            "stack(x1, x2, x3)",
            "stack(x1, batch(x2: 1, x3: 1), p)",
            "stack(q, r, x)",
            "batch(x1: 1, x2: 1)",
        ),
        *("average(l: 1, b: 1)", "split(b: 1, l: 2)", "stack(fuse(b1, b2), B)", "stack(parallel(B1, B2), B3)"),
        *("parallel(B1, B2)", "batch(B1: 1, stack(b, B2): 2)", "stack(b, parallel(B1, B2, b2))"),
        *("stack(B1, b, B2)", "stack(B, fuse(b1, b2))", "fuse(B1, b2)", "fuse(B1, stack(b2, B1))"),
    ],
)
def test_what_can_act_together(text: str) -> None:
    check_mixing(parse_composition(text), member, what="compose.x")


@pytest.mark.parametrize(
    ("text", "code", "what"),
    [
        ("fuse(b, l)", "composition-method", "compose.x can't fuse l, whose method is lora"),
        ("stack(b, fuse(b, stack(b, r)))", "composition-method", "compose.x can't fuse r, whose method is reft"),
        ("split(x: 1, b: 2)", "composition-method", "compose.x can't split x, whose method is prefix_tuning"),
        ("parallel(b, p)", "composition-method", "compose.x can't parallel p, whose method is prompt_tuning"),
        ("parallel(b, r)", "composition-method", "compose.x can't parallel r, whose method is reft"),
        ("average(x: 1, b: 2)", "composition-method", "compose.x can't average x, whose method is prefix_tuning"),
        ("batch(q: 1, b: 2)", "composition-method", "compose.x can't batch q, whose method is prefix_tuning"),
        (
            "stack(q, b, p)",
            "composition-method",
            "compose.x stacks q and p, which both put positions before the text's",
        ),
        ("stack(p1, skip(p2: 1))", "composition-method", "compose.x stacks p1 and p2, which both"),
        ("fuse(B1, B2)", "composition-heads", "compose.x has 2 heads side by side: of B1, B2"),
        ("stack(B1, average(B2: 1, stack(B1, B3): 2))", "composition-heads", "side by side: of B2, B3"),
    ],
)
def test_what_can_not(text: str, code: str, what: str) -> None:
    with pytest.raises(CompositionError) as caught:
        check_mixing(parse_composition(text), member, what="compose.x")
    assert caught.value.code == code
    assert what in caught.value.what
    assert caught.value.hint


def test_the_way_out_of_a_fusion_can_be_taken() -> None:
    with pytest.raises(CompositionError) as caught:
        check_mixing(parse_composition("fuse(b, l)"), member, what="compose.x")
    way = (caught.value.hint or "").partition("yourself: ")[2]
    check_mixing(parse_composition(way), member, what="compose.x")


@given(strategies.compositions())
def test_bottlenecks_without_heads_can_be_put_together_in_any_way(composition: Composition) -> None:
    check_mixing(composition, lambda _: Member(METHODS["b"]), what="compose.x")
    same = dict.fromkeys(leaves(composition), Member(METHODS["b"], "one head"))
    check_mixing(composition, same.__getitem__, what="compose.x")


FUSING = {
    "a": Member(METHODS["b"], name="x"),
    "b": Member(METHODS["b"], name="y", fusion=("x", "y")),
    "c": Member(METHODS["b"], name="z"),
    "f": Member(METHODS["b"], name="x", fusion=("z", "y")),
}


def test_weights_of_a_fusion_are_for_their_adapters_in_their_order() -> None:
    for text, brings in (
        ("fuse(a, b)", "b"),
        ("fuse(f, stack(c, b))", "b"),
        ("fuse(c, b)", "f"),
        ("stack(c, fuse(a, c))", None),
    ):
        composition = parse_composition(text)
        check_fusions(composition, FUSING.__getitem__, FUSING, what="compose.x")
        block = next(b for b in (composition, *getattr(composition, "parts", ())) if getattr(b, "kind", "") == "fuse")
        assert isinstance(block, Block)
        assert fusion_for(block, FUSING.__getitem__, FUSING) == brings
    for text in ("fuse(b, a)", "fuse(a, b, c)", "stack(b, fuse(a, c))", "fuse(a, stack(b, c))"):
        with pytest.raises(CompositionError) as caught:
            check_fusions(parse_composition(text), FUSING.__getitem__, FUSING, what="compose.x")
        assert caught.value.code == "composition-fusion"
        assert "but the weights that come with b were made for x, y" in caught.value.what
    with pytest.raises(CompositionError):
        check_fusions(parse_composition("fuse(c, b)"), FUSING.__getitem__, "abc", what="compose.x")
