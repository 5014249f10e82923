"""Compositions: which adapters act, and how they are put together.

    composition = NAME
                | "stack" "(" composition ("," composition)* ")"       one after the other
                | "fuse" "(" ... ")"                                   AdapterFusion over the outputs
                | "parallel" "(" ... ")"                               each on its own copy of the batch
                | "split" "(" composition ":" INTEGER, ... ")"         by position in the sequence
                | "batch" "(" composition ":" INTEGER, ... ")"         by rows of the batch
                | "average" "(" composition ":" NUMBER, ... ")"        weighted mean of the outputs
                | "skip" "(" composition ":" INTEGER, ... ")"          without these layers, counted from 0

NAME is an alias of the project, or the name of a package that a locked adapter requires. ``specs/names.md`` has the
lexical rules, ``specs/composition.md`` says what each means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, cast, get_args

from adpm import limits
from adpm.errors import CompositionError

__all__ = ["Block", "Composition", "Kind", "Rows", "blocks", "leaves", "parse_composition"]

Kind = Literal["stack", "fuse", "parallel", "split", "batch", "average", "skip"]
_KINDS: Final = frozenset(get_args(Kind))
_WEIGHTED: Final = frozenset({"split", "batch", "average"})
_TOKEN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._/-]*)|([(),:])")
_SPACE: Final = re.compile(r"\s*")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """One operator over at least one part; ``split`` (positions), ``batch`` (rows) and ``average`` have weights.

    ``skip`` has one part, and the layers as its weights.
    """

    kind: Kind
    parts: tuple[Composition, ...]
    weights: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.kind == "skip":
            return f"skip({self.parts[0]}: {', '.join(map(_spell, self.weights))})"
        if not self.weights:
            return f"{self.kind}({', '.join(map(str, self.parts))})"
        pairs = zip(self.parts, self.weights, strict=True)
        return f"{self.kind}({', '.join(f'{part}: {_spell(weight)}' for part, weight in pairs)})"


def _spell(weight: float) -> str:
    """The shortest text that reads back as ``weight``; whole numbers without a fraction."""
    return str(int(weight)) if weight == int(weight) else repr(float(weight))


Composition = str | Block


@dataclass(frozen=True, slots=True)
class Rows:
    """A composition for each row of one batch, None for the bare base; no expression, for a batch is no project's."""

    parts: tuple[Composition | None, ...]

    def __str__(self) -> str:
        return f"[{', '.join(str(part) for part in self.parts)}]"


def leaves(composition: Composition | Rows | None) -> Iterator[str]:
    """The names in a composition, from left to right, repeated where they repeat."""
    if composition is None:
        return
    if isinstance(composition, str):
        yield composition
        return
    for part in composition.parts:
        yield from leaves(part)


def blocks(composition: Composition | Rows | None) -> Iterator[Block]:
    """The operators in a composition, the outer ones first."""
    if isinstance(composition, Block):
        yield composition
    if isinstance(composition, (Block, Rows)):
        for part in composition.parts:
            yield from blocks(part)


def parse_composition(text: str) -> Composition:
    """Read the grammar above. Raises ``CompositionError`` (``composition-invalid``) that points at the place."""
    parser = _Parser(text)
    composition = parser.composition(0)
    parser.end()
    return composition


class _Parser:
    """Reads from ``place``, which never stands on white space."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.leaves = 0
        self.advance(0)

    def composition(self, depth: int) -> Composition:
        if depth > limits.COMPOSITION_DEPTH:
            self.fail(f"it nests deeper than {limits.COMPOSITION_DEPTH} levels")
        start = self.place
        name = self.word("an adapter's name")
        if self.peek() != "(":
            self.leaves += 1
            if self.leaves > limits.COMPOSITION_LEAVES:
                self.fail(f"it names more than {limits.COMPOSITION_LEAVES} adapters", start)
            return name
        if name not in _KINDS:
            self.fail(f"{name[:80]!r} is no operator; operators are {', '.join(sorted(_KINDS))}", start)
        return self.block(cast("Kind", name), depth)

    def block(self, kind: Kind, depth: int) -> Block:
        parts: list[Composition] = []
        weights: list[float] = []
        separator = "("
        if kind == "skip":
            self.take(separator)
            parts, separator = [self.composition(depth + 1)], ":"
        while separator != ")":
            self.take(separator)
            if kind == "skip":
                weights.append(self.weight(kind))
                separator = self.next_separator()
                continue
            parts.append(self.composition(depth + 1))
            if kind in _WEIGHTED:
                self.take(":")
                weights.append(self.weight(kind))
            separator = self.next_separator()
        self.take(")")
        return Block(kind, tuple(parts), tuple(weights))

    def next_separator(self) -> str:
        separator = self.peek() or ""
        if separator not in {",", ")"}:
            self.fail("expected ',' or ')'")
        return separator

    def weight(self, kind: Kind) -> float:
        start = self.place
        word = self.word("a number")
        if not _NUMBER.match(word):
            self.fail(f"{word[:80]!r} is not a number", start)
        value = float(word)
        if kind == "skip" and value == 0:
            return value
        if not 0 < value <= limits.INTEGER_MAX or (kind != "average" and value != int(value)):
            wanted = "number" if kind == "average" else "whole number"
            self.fail(f"{word[:80]!r} is not a positive {wanted} up to 2^53", start)
        return value

    def peek(self) -> str | None:
        match = _TOKEN.match(self.text, self.place)
        return match[0] if match else None

    def word(self, wanted: str) -> str:
        match = _TOKEN.match(self.text, self.place)
        if match is None or match[1] is None:
            self.fail(f"expected {wanted}")
        self.advance(match.end())
        return match[1]

    def take(self, token: str) -> None:
        match = _TOKEN.match(self.text, self.place)
        if match is None or match[2] != token:
            self.fail(f"expected {token!r}")
        self.advance(match.end())

    def advance(self, place: int) -> None:
        space = _SPACE.match(self.text, place)
        self.place = space.end() if space else place

    def end(self) -> None:
        if self.place < len(self.text):
            self.fail("expected the end")

    def fail(self, why: str, place: int | None = None) -> NoReturn:
        raise CompositionError(
            "composition-invalid",
            f"{self.text[:200]!r} is not a composition",
            cause=f"at character {(self.place if place is None else place) + 1}: {why}",
            hint="a composition looks like: sst, stack(en, sst), average(a: 0.3, b: 0.7)",
        )
