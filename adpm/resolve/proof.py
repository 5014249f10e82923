"""The solver's derivation as a small graph: only the steps that matter, over names and sets of releases.

A *claim* says that its terms can't all hold; the terms of the project itself always hold and are left out, so that
the last claim of a proof is empty. A step's claim follows from the claims of its two causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from nab_resolver.root import ROOT
from nab_resolver.types import Incompatibility, IncompatibilityCause

from adpm.resolve.catalog import Packages
from adpm.resolve.facts import Excluded, Unmet
from adpm.resolve.problem import Wanted
from adpm.resolve.versions import VersionSet

__all__ = ["Claim", "Depends", "Leaf", "Node", "Nothing", "Step", "Term", "Why", "leaves", "simplify", "steps"]


class Term(NamedTuple):
    """A release of the package is chosen and lies in the set; or, where not ``positive``, none of the set is."""

    releases: int
    positive: bool


Claim = Mapping[str, Term]


@dataclass(frozen=True, slots=True)
class Depends:
    """``releases`` of ``name`` require that one of ``needed`` of ``other`` is chosen; ``other`` may be itself."""

    name: str
    releases: int
    other: str
    needed: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """None of ``releases`` can be chosen, for reasons that were given before."""

    name: str
    releases: int


Why = Wanted | Depends | Excluded | Unmet | Nothing


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    claim: Claim
    why: Why


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    claim: Claim
    left: Node
    right: Node


Node = Leaf | Step


def simplify(proof: Incompatibility[str, int], packages: Packages) -> Node:
    """The proof without the steps whose claim already follows from one of their causes. Loops: proofs are deep."""
    done: dict[int, Node] = {}
    stack = [proof]
    while stack:
        node = stack[-1]
        causes = [cause for cause in (node.cause_left, node.cause_right) if cause is not None]
        waiting = [cause for cause in causes if id(cause) not in done]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        claim = _claim(node, packages)
        if node.cause is IncompatibilityCause.DERIVED:
            left, right = (done[id(cause)] for cause in causes)
            enough = next((cause for cause in (left, right) if _follows(claim, cause.claim)), None)
            done[id(node)] = enough or Step(claim, left, right)
        else:
            done[id(node)] = Leaf(claim, _why(node, claim))
    return done[id(proof)]


def leaves(node: Node) -> list[Leaf]:
    """The facts a proof rests on, each once, in the order of the derivation."""
    found: dict[int, Leaf] = {}
    seen: set[int] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Leaf):
            found[id(node)] = node
        else:
            stack += [node.right, node.left]
    return list(found.values())


def steps(node: Node) -> list[Step]:
    """The steps of a proof, each once."""
    found: dict[int, Step] = {}
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Step) and id(node) not in found:
            found[id(node)] = node
            stack += [node.left, node.right]
    return list(found.values())


def _claim(node: Incompatibility[str, int], packages: Packages) -> Claim:
    claim = {}
    for term in node.terms:
        if cast("object", term.package) is not ROOT:
            releases = cast("VersionSet", term.constraint).bits & packages[term.package].all
            claim[term.package] = Term(releases, term.is_positive())
    return claim


def _why(node: Incompatibility[str, int], claim: Claim) -> Why:
    if isinstance(node.origin, Wanted | Excluded | Unmet):
        return node.origin
    (name, releases), *rest = ((name, term.releases) for name, term in claim.items())
    if node.cause is not IncompatibilityCause.DEPENDENCY:
        return Nothing(name, releases)
    if rest:
        return Depends(name, releases, *rest[0])
    return Depends(name, releases, name, cast("VersionSet", node.dependency_range).bits)


def _follows(claim: Claim, cause: Claim) -> bool:
    """Whether terms that contradict ``cause`` contradict ``claim`` as well."""
    return all(name in claim and _implies(claim[name], term) for name, term in cause.items())


def _implies(one: Term, other: Term) -> bool:
    if other.positive:
        return one.positive and one.releases & ~other.releases == 0
    if one.positive:
        return one.releases & other.releases == 0
    return other.releases & ~one.releases == 0
