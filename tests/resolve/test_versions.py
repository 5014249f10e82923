"""Sets of releases obey the algebra that the solver relies on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adpm.resolve.versions import VersionSet

sets = st.integers(-(1 << 70), 1 << 70).map(VersionSet)
places = st.integers(0, 80)


@given(sets, sets, places)
def test_membership(one: VersionSet, other: VersionSet, place: int) -> None:
    assert (place in one & other) == (place in one and place in other)
    assert (place in one | other) == (place in one or place in other)
    assert (place in one - other) == (place in one and place not in other)
    assert (place in ~one) == (place not in one)
    assert place in VersionSet.full()
    assert place not in VersionSet.empty()
    assert place in VersionSet.singleton(place)


@given(sets, sets)
def test_relations_agree_with_the_algebra(one: VersionSet, other: VersionSet) -> None:
    relation = one.relation(other)
    assert relation.is_subset == one.is_subset(other) == other.is_superset(one) == (one - other).is_empty
    assert relation.is_disjoint == one.is_disjoint(other) == (one & other).is_empty


@given(sets, sets)
def test_a_set_has_one_spelling(one: VersionSet, other: VersionSet) -> None:
    assert (one == other) == (one.is_subset(other) and other.is_subset(one))
    assert hash(one - other) == hash(one & ~other)
    assert one.is_subset((one - other) | other)
