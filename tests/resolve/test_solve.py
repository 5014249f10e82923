"""Resolving as a caller sees it: preferences, work, the source, errors."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from packaging.version import Version

from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import BudgetError, NetworkError, NoSolutionError, NotFoundError, RegistryError
from adpm.resolve.problem import Locked, Problem, Resolution
from adpm.resolve.solve import resolve
from tests.resolve.shelf import Shelf, base, listing, wanted


def versions(resolution: Resolution) -> dict[str, str]:
    return {str(name): str(release.version) for name, release in resolution.chosen.items()}


def solve(shelf: Shelf, *lines: str, threads: int = 1, **problem: object) -> dict[str, str]:
    return versions(resolve(Problem(wanted(*lines), **problem), shelf, threads=threads))  # type: ignore[arg-type]  # as the test says


ROW = tuple(listing("a", f"1.{i}", "b") for i in range(5)) + tuple(listing("b", f"1.{i}") for i in range(5))


@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_wanted(threads: int) -> None:
    assert solve(Shelf(), threads=threads) == {}


@pytest.mark.parametrize("threads", [1, 4])
def test_newest_of_all_that_is_required_and_nothing_else(threads: int) -> None:
    shelf = Shelf(*ROW, listing("c", "1.0"))
    assert solve(shelf, "a <1.3", threads=threads) == {"a": "1.2", "b": "1.4"}


def test_what_is_locked_stays_and_only_what_must_moves() -> None:
    locked = {PackageName(name): Locked(Version("1.1")) for name in "ab"}
    assert solve(Shelf(*ROW), "a", locked=locked) == {"a": "1.1", "b": "1.1"}
    assert solve(Shelf(*ROW), "a", "b >=1.2", locked=locked) == {"a": "1.1", "b": "1.4"}


def test_a_new_line_gives_way_to_what_is_locked() -> None:
    shelf = Shelf(*ROW, listing("new", "1.0", "b <=1.1"), listing("new", "2.0", "b >=1.3"))
    locked = {PackageName(name): Locked(Version("1.1")) for name in "ab"}
    assert solve(shelf, "a", "new", locked=locked) == {"a": "1.1", "b": "1.1", "new": "1.0"}
    assert solve(shelf, "a", "new") == {"a": "1.4", "b": "1.4", "new": "2.0"}


def test_the_order_of_lines_does_not_decide_who_gets_the_newest() -> None:
    shelf = Shelf(*(listing("a", "1"), listing("a", "2", "b ==1"), listing("b", "1"), listing("b", "2", "a ==1")))
    assert solve(shelf, "a", "b") == solve(shelf, "b", "a") == {"a": "2", "b": "1"}


def test_a_digest_chooses_one_release() -> None:
    pinned = ROW[1]
    assert solve(Shelf(*ROW), f"a@{pinned.manifest.digest}") == {"a": "1.1", "b": "1.4"}


def test_a_release_for_another_base_is_passed_over() -> None:
    shelf = Shelf(listing("a", "1.0", fits=base(768)), listing("a", "2.0", fits=base(1024)))
    assert solve(shelf, "a", base=base(768)) == {"a": "1.0"}
    assert solve(shelf, "a", base=base(1024)) == {"a": "2.0"}
    assert solve(shelf, "a") == {"a": "2.0"}


def test_names_are_plain_texts_to_the_solver() -> None:
    shelf = Shelf(listing("a", "1.0"), listing("text/a.b-c_d", "1.0", "a"))
    assert solve(shelf, "text/a.b-c_d") == {"a": "1.0", "text/a.b-c_d": "1.0"}


TWINS = (listing("a", "1.0"), listing("a", "1.1", content="one"), listing("a", "1.1", content="other"))


def test_two_releases_of_one_version_are_an_error_if_needed() -> None:
    digests = {release.manifest.digest for release in TWINS[1:]}
    with pytest.raises(RegistryError) as caught:
        resolve(Problem(wanted("a")), Shelf(*TWINS), threads=1)
    assert caught.value.code == "version-conflict"
    assert set((caught.value.cause or "").splitlines()) == digests
    assert solve(Shelf(*TWINS), "a <1.1") == {"a": "1.0"}


@pytest.mark.parametrize("twin", TWINS[1:])
def test_a_digest_decides_between_two_releases_of_one_version(twin: Listing) -> None:
    digest = twin.manifest.digest
    own = resolve(Problem(wanted(f"a@{digest}")), Shelf(*TWINS), threads=1)
    locked = {PackageName("a"): Locked(Version("1.1"), digest)}
    kept = resolve(Problem(wanted("a"), locked=locked), Shelf(*TWINS), threads=1)
    other = resolve(Problem(wanted("b", "a")), Shelf(*TWINS, listing("b", "1.0", f"a@{digest}")), threads=1)
    for resolution in (own, kept, other):
        assert resolution.chosen[PackageName("a")] is twin


def test_the_budget_is_reported_as_such() -> None:
    rows = [listing(f"p{i}", f"{v}.0", f"p{i + 1} <={v}.0") for i in range(6) for v in range(6)]
    with pytest.raises(BudgetError, match="after 3 decisions") as caught:
        resolve(Problem(wanted("p0")), Shelf(*rows, *(listing("p6", f"{v}.0") for v in range(6))), decisions=3)
    assert (caught.value.code, caught.value.exit_status) == ("resolver-budget", 1)


def test_hard_problems_end_within_the_budget() -> None:
    """40 packages of 40 releases each, where all but the oldest lead nowhere, and 20 of 50 without a solution."""
    rows = [listing(f"p{i}", f"{v}", f"p{i + 1} =={v}") for i in range(40) for v in range(40)]
    ends = [listing("p40", "0"), *(listing("p40", f"{v}", "gone") for v in range(1, 40))]
    found = resolve(Problem(wanted("p0")), Shelf(*rows, *ends), threads=1)
    assert set(versions(found).values()) == {"0"}
    assert found.decisions < 100
    deep = [listing(f"p{i}", f"{v}", f"p{i + 1} <={v}") for i in range(20) for v in range(50)]
    ends = [*(listing("p20", f"{v}", "q >=1") for v in range(50)), listing("q", "0"), listing("q", "1")]
    with pytest.raises(NoSolutionError):
        resolve(Problem(wanted("p0", "q <1")), Shelf(*deep, *ends), threads=1)


def test_what_a_fact_shuts_out_is_followed_upwards() -> None:
    """Each release requires one that is older than itself, so that only the oldest of the first package has a chain."""
    rows = [listing(f"p{i}", f"{v}", *([f"p{i + 1} <{v}"] if v else [])) for i in range(40) for v in range(i > 0, 40)]
    found = resolve(Problem(wanted("p0")), Shelf(*rows), threads=1)
    assert versions(found) == {"p0": "0"}
    assert found.decisions < 100
    beside = [listing("r", "1"), listing("r", "2", "p0 >=30"), listing("r", "3", "p0 >=1", "x")]
    found = resolve(Problem(wanted("p0", "r")), Shelf(*rows, *beside, listing("x", "1")), threads=1)
    assert versions(found) == {"p0": "0", "r": "1"}


def test_what_the_project_wants_is_chosen_before_what_that_requires() -> None:
    shelf = Shelf(
        *(listing("a", version, "x") for version in "12"),
        *(listing("b", "1"), listing("b", "2", "x <2")),
        *(listing("x", "1"), listing("x", "2", "b <2")),
    )
    assert solve(shelf, "a", "b") == {"a": "2", "b": "2", "x": "1"}


@pytest.mark.parametrize("threads", [1, 8])
def test_each_package_is_asked_for_once(threads: int) -> None:
    shelf = Shelf(
        *(listing(f"p{i}", f"{v}", f"p{i + 1} <={v}") for i in range(5) for v in range(5)), listing("p5", "0")
    )
    assert solve(shelf, "p0", threads=threads)["p5"] == "0"
    assert sorted(shelf.asked) == [f"p{i}" for i in range(6)]


class _Gate(Shelf):
    """Answers only when as many are waiting as must be asked for together."""

    def __init__(self, together: int, *releases: Listing) -> None:
        super().__init__(*releases)
        self.barrier = threading.Barrier(together, timeout=20)

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        if name != "root":
            self.barrier.wait()
        return super().candidates(name)


def test_what_a_release_requires_is_asked_for_together() -> None:
    leaves = [listing(f"p{i}", "1.0") for i in range(6)]
    shelf = _Gate(6, listing("root", "1.0", *(f"p{i}" for i in range(6))), *leaves)
    assert len(solve(shelf, "root", threads=6)) == 7


class _Faulty(Shelf):
    def candidates(self, name: PackageName) -> Sequence[Listing]:
        if name == "down":
            raise NetworkError("server-unreachable", "no answer")
        return super().candidates(name)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_fault_ends_the_resolution_if_the_answer_is_needed(threads: int) -> None:
    with pytest.raises(NetworkError):
        solve(_Faulty(listing("a", "1.0", "down")), "a", threads=threads)


def test_a_fault_in_what_was_only_a_guess_does_not() -> None:
    """The newest b, which the guess follows, requires a package of a server that is down; c rules that b out."""
    shelf = _Faulty(
        listing("a", "1.0", "b", "c"),
        *(listing("b", "1.0"), listing("b", "2.0", "down")),
        listing("c", "1.0", "b <2"),
    )
    assert solve(shelf, "a", threads=4) == {"a": "1.0", "b": "1.0", "c": "1.0"}


class _NoRegistry(Shelf):
    def candidates(self, name: PackageName) -> Sequence[Listing]:
        raise NotFoundError("registry-not-found", f"asked for {name}")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_registry_that_is_not_there_is_no_missing_package(threads: int) -> None:
    with pytest.raises(NotFoundError, match="asked for a"):
        solve(_NoRegistry(), "a", threads=threads)


def test_a_package_without_releases() -> None:
    shelf = Shelf()
    shelf.packages["a"] = []
    with pytest.raises(NoSolutionError, match="a has no releases"):
        solve(shelf, "a")
