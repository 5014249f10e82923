"""What the resolver is asked, whom it asks, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.metrics import Floor, Preference
from adpm.core.names import Digest, PackageName
from adpm.core.release import Listing
from adpm.core.requirement import Requirement
from adpm.core.rules import Resolution as Order

__all__ = ["Locked", "Prereleases", "Problem", "Resolution", "Source", "Wanted"]

Prereleases = Literal["all", "if-necessary-or-explicit"]


class Source(Protocol):
    """Where releases come from. The resolver asks once for each package it needs, whatever the search does."""

    def candidates(self, name: PackageName) -> Sequence[Listing]:
        """Every release of ``name``, in any order; yanked, pre-release and misfitting ones too.

        May block: it is called from up to ``limits.PREFETCH_THREADS`` threads at once, for different names. Raises
        ``NotFoundError`` (``package-not-found``, perhaps with the names that may have been meant as ``near``) if no
        registry has the package; other errors end the resolution if
        the answer is needed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """One requirement of the project, and the user's own line that states it.

    ``where`` is the line's place (``adapter.yaml:7``, ``adpm add``), ``text`` the line itself
    (``sst: text/sst-2 >=1.2,<2``): an explanation names the first and quotes the second. ``floors``: what the scores of
    a release must reach to be a candidate, whoever requires it. ``prefer``: what scores count before versions.
    """

    requirement: Requirement
    where: str
    text: str
    floors: tuple[Floor, ...] = ()
    prefer: Preference | None = None

    @property
    def line(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Locked:
    """What the lock holds for a package. Without a digest any release of that version is meant."""

    version: Version
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything the answer depends on, besides the releases. The order of ``wanted`` and ``overrides`` is free.

    ``base``: the project's; None checks no release against it. ``locked``: what to keep where the requirements allow
    it, by package. ``prereleases``: "all" makes every release a candidate; with "if-necessary-or-explicit" the
    pre-releases of a package are candidates only if a requirement of the *project* on it names one, or if it has
    nothing else. ``overrides``: what stands in for the requirements of releases on the package that each names, no
    package twice. ``exclude``: packages that no release requires. ``before``: the moment before which a release must
    have been published; ``exclude_undated``: also where it is not known when it was. ``order``: which release of a
    package is preferred. ``licenses``: those that are allowed; None: any.
    """

    wanted: tuple[Wanted, ...]
    base: BaseIdentity | None = None
    locked: Mapping[PackageName, Locked] = field(default_factory=dict)
    prereleases: Prereleases = "if-necessary-or-explicit"
    overrides: tuple[Wanted, ...] = ()
    exclude: frozenset[PackageName] = frozenset()
    before: str | None = None
    order: Order = "highest"
    licenses: tuple[str, ...] | None = None
    exclude_undated: bool = True
    first: frozenset[PackageName] = frozenset()  # what is to be as new as can be, though locked packages move for it


@dataclass(frozen=True, slots=True)
class Resolution:
    """One release of each package that the project needs, sorted by name, and no other.

    ``decisions``: how many choices the search made, the unit of the work budget.
    """

    chosen: Mapping[PackageName, Listing]
    decisions: int
