"""Which releases meet a constraint, and which are candidates at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from adpm.core.names import PackageName
from adpm.core.requirement import Requirement
from adpm.resolve.package import Package, members
from adpm.resolve.problem import Locked, Prereleases
from tests.resolve.shelf import listing

NAME = PackageName("a")
RELEASES = st.sampled_from(["0", "1", "1.0", "1.0.1", "1.1", "1.2", "1.10", "2", "2.0", "2.1", "10", "1!0.5", "1!2"])
PARTS = st.sampled_from(["", ".dev0", ".dev3", "a0", "a1", "a1.dev1", "b2", "rc1", ".post0", ".post2", ".post2.dev1"])
LOCALS = st.sampled_from(["", "", "", "+cpu", "+cpu.2"])
public = st.builds(str.__add__, RELEASES, PARTS)
specifiers = st.one_of(
    st.builds(str.__add__, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), public),
    st.builds("{}{}{}".format, st.sampled_from(["==", "!="]), public, LOCALS),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), RELEASES),
    st.builds(str.__add__, st.just("~="), RELEASES.filter(lambda text: "." in text)),
)


def package(*versions: str) -> Package:
    return Package(NAME, [listing("a", version) for version in versions])


@given(
    st.lists(st.builds(str.__add__, public, LOCALS), unique_by=Version, max_size=40), st.lists(specifiers, max_size=3)
)
def test_meeting_is_what_packaging_says(versions: list[str], constraint: list[str]) -> None:
    asked = Requirement(NAME, SpecifierSet(",".join(constraint)))
    found = package(*versions)
    expected = {v for v in map(Version, versions) if asked.specifiers.contains(v, prereleases=True)}
    assert {found.versions[place] for place in members(found.meeting(asked))} == expected


@given(st.lists(public, unique_by=Version, min_size=9, max_size=40), specifiers)
def test_searching_a_long_list_is_what_packaging_says(versions: list[str], constraint: str) -> None:
    asked = Requirement(NAME, SpecifierSet(constraint))
    found = package(*versions)
    expected = {v for v in map(Version, versions) if asked.specifiers.contains(v, prereleases=True)}
    assert {found.versions[place] for place in members(found.meeting(asked))} == expected


def test_a_digest_names_one_release() -> None:
    twins = [listing("a", "1.0", content="one"), listing("a", "1.0", content="other")]
    found = Package(NAME, twins)
    place = found.meeting(Requirement(NAME, digest=twins[0].manifest.digest))
    assert [found.releases[p] for p in members(place)] == [twins[0]]
    assert set(found.twins(0)) == set(twins)


@pytest.mark.parametrize(
    ("versions", "own", "mode", "candidates"),
    [
        (["1.0", "2.0rc1"], [""], "if-necessary-or-explicit", ["1.0"]),
        (["1.0", "2.0rc1"], [""], "all", ["1.0", "2.0rc1"]),
        (["1.0", "2.0rc1"], ["a >=1.5b1"], "if-necessary-or-explicit", ["1.0", "2.0rc1"]),
        (["1.0", "2.0rc1"], ["a", "a <=2.0rc1"], "if-necessary-or-explicit", ["1.0", "2.0rc1"]),
        (["1.0", "2.0rc1"], ["a !=2.0rc1"], "if-necessary-or-explicit", ["1.0"]),
        (["1.0.dev1", "2.0rc1"], [""], "if-necessary-or-explicit", ["1.0.dev1", "2.0rc1"]),
        (["1.0", "2.0 yanked"], ["a >=2.0"], "all", ["1.0"]),
        (["1.0", "2.0 yanked"], ["a ==2.0"], "all", ["1.0", "2.0"]),
        (["1.0", "2.0 yanked"], ["a ==2.*"], "all", ["1.0"]),
        (["1.0", "2.0 yanked"], ["a ==1.0"], "all", ["1.0"]),
        (["1.0", "2.0rc1 yanked"], ["a ==2.0rc1"], "if-necessary-or-explicit", ["1.0", "2.0rc1"]),
    ],
)
def test_candidates(versions: Sequence[str], own: list[str], mode: Prereleases, candidates: list[str]) -> None:
    releases = [listing("a", v.split()[0], yanked="broken" if "yanked" in v else None) for v in versions]
    found = Package(NAME, releases, wanted=[Requirement.parse(text) for text in own if text], prereleases=mode)
    assert [str(found.versions[place]) for place in members(found.candidates)] == candidates


def test_a_digest_of_the_project_admits_what_it_names() -> None:
    releases = [listing("a", "1.0"), listing("a", "2.0rc1", yanked=""), listing("a", "2.0rc2")]
    own = [Requirement(NAME, digest=releases[1].manifest.digest)]
    found = Package(NAME, releases, wanted=own, prereleases="if-necessary-or-explicit")
    assert [str(found.versions[place]) for place in members(found.candidates)] == ["1.0", "2.0rc1"]


def test_a_yanked_release_that_is_locked_is_a_candidate_and_preferred() -> None:
    releases = [listing("a", "1.0", yanked="broken"), listing("a", "2.0")]
    digest = releases[0].manifest.digest
    for locked in (Locked(Version("1.0")), Locked(Version("1.0"), digest)):
        found = Package(NAME, releases, locked=locked)
        assert found.candidates == 0b11
        assert found.best(found.candidates) == 0
    other = Package(NAME, releases, locked=Locked(Version("1.0"), releases[1].manifest.digest))
    assert other.candidates == 0b10


@pytest.mark.parametrize(
    ("versions", "best"),
    [(["1.0", "2.0", "3.0rc1"], "2.0"), (["1.0rc1", "1.0rc2"], "1.0rc2"), (["1.0", "1.0.post1"], "1.0.post1")],
)
def test_the_newest_final_release_is_preferred(versions: list[str], best: str) -> None:
    found = package(*versions)
    place = found.best(found.all)
    assert place is not None
    assert str(found.versions[place]) == best
    assert found.best(0) is None


def test_several_requirements_on_one_package_are_one() -> None:
    found = Package(NAME, [listing("a", "1.0", "b >=1", "b <2", "c")])
    assert {name: requirement.constraint for name, requirement in found.requires(0).items()} == {"b": ">=1,<2", "c": ""}


def test_neighbours_that_require_the_same_are_alike() -> None:
    found = Package(NAME, [listing("a", v, r) for v, r in [("1", "b"), ("2", "b >=1"), ("3", "b >=1"), ("4", "b")]])
    assert [found.alike(place) for place in range(4)] == [0b0001, 0b0110, 0b0110, 0b1000]
