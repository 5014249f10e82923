"""Why a release is no candidate: the facts that the search states to the solver and the explanation puts into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adpm.core.names import PackageName
from adpm.core.requirement import Requirement

__all__ = ["Excluded", "Fact", "Unmet"]


@dataclass(frozen=True, slots=True)
class Excluded:
    """Releases that a rule shuts out, whoever asks.

    ``detail``: the yank's reason, the misfit in numbers, the moment before which a release must be published, its
    license (empty: it states none), or what its scores should reach and do.
    """

    name: PackageName
    releases: int
    rule: Literal["yanked", "pre-release", "base", "newer", "undated", "license", "score"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unmet:
    """Releases that require what no release of another package meets, or a package that does not exist."""

    name: PackageName
    releases: int
    requirement: Requirement


Fact = Excluded | Unmet
