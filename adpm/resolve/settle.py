"""Keep what is locked: nothing moves that need not.

The search prefers locked releases one choice at a time, so that an early choice of something new can push aside what
was locked although there is a solution with both. So for each locked package that a solution moved the search is
repeated with everything held that stayed so far, and this package as well; where that has a solution it is the better
one. In the end no solution moves only a part of what this one moves.
"""

from __future__ import annotations

from adpm.core.names import PackageName
from adpm.errors import AdpmError
from adpm.resolve.catalog import Catalog
from adpm.resolve.package import Package
from adpm.resolve.problem import Problem
from adpm.resolve.provider import Provider
from adpm.resolve.search import Selected, SpentError, search

__all__ = ["settle"]


def settle(problem: Problem, catalog: Catalog, found: Selected, decisions: int) -> Selected:
    """``found``, or a solution that moves less; ``problem.first`` stays as found.

    Costs nothing where nothing locked has moved, else a search for each package that moved and could have stayed, of
    at most ``decisions`` choices in all. What is then left moves perhaps without need.
    """
    held = {str(name): 1 << found.places[name] for name in problem.first if name in found.places}
    left, spent = decisions, found.decisions
    for name in sorted(problem.locked):
        if name in held or name not in found.places or _stays(catalog, name, found):
            continue
        kept = _could_stay(problem, catalog[name])
        if not kept:
            continue
        stays = {str(n): catalog[n].kept for n in problem.locked if n in found.places and _stays(catalog, n, found)}
        try:
            other = search(problem.wanted, Provider(catalog, problem.first, {**stays, **held, name: kept}), left)
        except SpentError as gave_up:
            left -= gave_up.decisions
            spent += gave_up.decisions
        except AdpmError:
            continue  # it needs what can't be had, which the solution at hand does not
        else:
            left -= other.decisions
            spent += other.decisions
            if isinstance(other, Selected):
                found = other
        if left <= 0:
            break
    return Selected(found.places, spent)


def _stays(catalog: Catalog, name: PackageName, found: Selected) -> bool:
    return catalog[name].keeps(1 << found.places[name])


def _could_stay(problem: Problem, package: Package) -> int:
    """The locked release if it is a candidate that meets all that the project itself wants of the package."""
    kept = package.kept & package.candidates
    for wanted in problem.wanted:
        if wanted.requirement.name == package.name:
            kept &= package.meeting(wanted.requirement)
    return kept
