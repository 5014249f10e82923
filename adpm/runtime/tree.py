"""A composition at one place of the model: what is left of it where only some adapters have a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from adpm.core.composition import Block, Composition, Rows, leaves

__all__ = ["Chain", "Fork", "Leaf", "Node", "last_name", "leaves_of", "place"]

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Leaf(Generic[P]):
    """What one adapter has here."""

    name: str
    part: P


@dataclass(frozen=True, slots=True)
class Chain(Generic[P]):
    """One after the other; never empty."""

    items: tuple[Leaf[P] | Fork[P], ...]


@dataclass(frozen=True, slots=True)
class Fork(Generic[P]):
    """Side by side; None for a branch that has nothing here. At least one has something.

    ``block`` is what it comes from: an operator with as many parts as there are branches, or rows, whose equal parts
    are one branch, in the order in which they come.
    """

    block: Block | Rows
    branches: tuple[Node[P] | None, ...]

    @property
    def kind(self) -> str:
        return self.block.kind if isinstance(self.block, Block) else "rows"


Node = Leaf[P] | Chain[P] | Fork[P]


def place(
    composition: Composition | Rows | None, pick: Callable[[str], P | None], layer: int | None
) -> Chain[P] | None:
    """``composition`` where ``pick`` gives what an adapter has, in ``layer``; None where nothing acts."""
    node = _node(composition, pick, layer)
    if node is None or isinstance(node, Chain):
        return node
    return Chain((node,))


def _node(composition: Composition | Rows | None, pick: Callable[[str], P | None], layer: int | None) -> Node[P] | None:
    if composition is None or (isinstance(composition, Block) and _skips(composition, layer)):
        return None
    if isinstance(composition, str):
        part = pick(composition)
        return None if part is None else Leaf(composition, part)
    if isinstance(composition, Rows):
        rows = tuple(place(part, pick, layer) for part in dict.fromkeys(composition.parts))
        return Fork(composition, rows) if any(row is not None for row in rows) else None
    branches = tuple(_node(part, pick, layer) for part in composition.parts)
    there = tuple(branch for branch in branches if branch is not None)
    if not there or composition.kind == "skip":
        return there[0] if there else None
    if composition.kind != "stack":
        return Fork(composition, branches)
    # A stack in a stack is one stack.
    return Chain(tuple(item for branch in there for item in (branch.items if isinstance(branch, Chain) else (branch,))))


def _skips(block: Block, layer: int | None) -> bool:
    return block.kind == "skip" and layer in block.weights


def leaves_of(node: Node[P] | None) -> Iterator[Leaf[P]]:
    """What acts in ``node``, from left to right."""
    if isinstance(node, Leaf):
        yield node
    elif node is not None:
        for child in node.items if isinstance(node, Chain) else node.branches:
            yield from leaves_of(child)


def last_name(composition: Composition) -> str:
    """The last adapter of a composition: the one that a fusion's file names it by."""
    return list(leaves(composition))[-1]
