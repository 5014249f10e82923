"""Sets of a package's releases, as the solver computes with them.

A release is its place in the package's list, which is sorted by version; a set of releases is the integer with those
bits set. Python's integers are two's complement of any length, so ``-1`` is every release, ``~x`` the complement,
and each set has exactly one spelling: equality, hashing and all of the algebra are one machine operation for
packages of up to some dozens of releases.

Why no intervals of versions: PEP 440 has sets that are none (``>1.0`` leaves out ``1.0.post1`` and ``1.0+cpu``,
``<1.0`` leaves out ``1.0rc1``, ``!=1.2.*``). Here ``packaging`` alone says which releases meet a constraint, once for
each constraint (``Package.meeting``), and what follows is plain set algebra. The price is that a package's list must
be at hand when a requirement on it is first seen, not only when it is chosen: one more wave of look-ups, which the
prefetch makes parallel.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

__all__ = ["VersionSet"]


class _Relation(NamedTuple):
    is_subset: bool
    is_disjoint: bool


_EMPTY: Final = _Relation(is_subset=True, is_disjoint=True)
_SUBSET: Final = _Relation(is_subset=True, is_disjoint=False)
_DISJOINT: Final = _Relation(is_subset=False, is_disjoint=True)
_OVERLAPPING: Final = _Relation(is_subset=False, is_disjoint=False)


class VersionSet:
    """An immutable set of releases of one package; nab's ``RangeProtocol[int]``."""

    __slots__ = ("bits",)

    def __init__(self, bits: int) -> None:
        self.bits = bits

    @classmethod
    def empty(cls) -> Self:
        return cls(0)

    @classmethod
    def full(cls) -> Self:
        return cls(-1)

    @classmethod
    def singleton(cls, version: int) -> Self:
        return cls(1 << version)

    @property
    def is_empty(self) -> bool:
        return self.bits == 0

    def __contains__(self, version: int, /) -> bool:
        return self.bits >> version & 1 == 1

    def __and__(self, other: object) -> Self:
        return type(self)(self.bits & other.bits) if isinstance(other, VersionSet) else NotImplemented

    def __or__(self, other: object) -> Self:
        return type(self)(self.bits | other.bits) if isinstance(other, VersionSet) else NotImplemented

    def __sub__(self, other: object) -> Self:
        return type(self)(self.bits & ~other.bits) if isinstance(other, VersionSet) else NotImplemented

    def __invert__(self) -> Self:
        return type(self)(~self.bits)

    def is_subset(self, other: VersionSet) -> bool:
        return self.bits & ~other.bits == 0

    def is_superset(self, other: VersionSet) -> bool:
        return other.bits & ~self.bits == 0

    def is_disjoint(self, other: VersionSet) -> bool:
        return self.bits & other.bits == 0

    def relation(self, other: VersionSet) -> _Relation:
        if self.bits == 0:
            return _EMPTY
        common = self.bits & other.bits
        if common == self.bits:
            return _SUBSET
        return _OVERLAPPING if common else _DISJOINT

    def __eq__(self, other: object) -> bool:
        return self.bits == other.bits if isinstance(other, VersionSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.bits)

    def __repr__(self) -> str:
        return f"VersionSet({self.bits:#b})"
