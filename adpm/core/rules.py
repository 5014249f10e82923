"""What a project says of how its releases are chosen, beside which adapters it wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from adpm.core.names import PackageName
from adpm.core.requirement import Requirement

__all__ = ["RESOLUTIONS", "Override", "Resolution", "Rules"]

Resolution = Literal["highest", "lowest", "lowest-direct"]
RESOLUTIONS: Final[tuple[Resolution, ...]] = get_args(Resolution)


@dataclass(frozen=True, slots=True)
class Override:
    """Stands in for whatever releases require of the package it names; ``line`` is where it stands in the file."""

    requirement: Requirement
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """``overrides`` and ``exclude`` amend what releases require; the project's own adapters stay as they are.

    ``exclude``: packages that no release requires, whatever its card says. ``resolution``: which of the releases that
    will do is preferred. ``exclude_newer``: a cutoff in canonical form (see ``moment``); ``exclude_undated``: whether
    that shuts out what has no time as well. ``licenses``: those that are allowed (see ``licenses``); None: any.
    """

    overrides: tuple[Override, ...] = ()  # sorted by name, no package twice
    exclude: tuple[PackageName, ...] = ()  # sorted, each once
    resolution: Resolution = "highest"
    exclude_newer: str | None = None
    licenses: tuple[str, ...] | None = None  # sorted, each once
    exclude_undated: bool = True

    def amended(self, requires: Iterable[Requirement]) -> tuple[Requirement, ...]:
        """What a release requires in this project, in the order of ``requires``."""
        overrides = {override.requirement.name: override.requirement for override in self.overrides}
        return tuple(overrides.get(r.name, r) for r in requires if r.name not in self.exclude)

    def differences(self, locked: Rules) -> Iterator[str]:
        """How these differ from the rules that a lock was made with, a sentence each."""
        mine, theirs = ({o.requirement.name: o.requirement.constraint for o in r.overrides} for r in (self, locked))
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                yield f"{_override(name, mine)}; the lock has {_override(name, theirs)}"
        for name in sorted({*self.exclude} ^ {*locked.exclude}):
            here, there = ("is", "is not") if name in self.exclude else ("is not", "is")
            yield f"{name} {here} excluded; in the lock it {there}"
        if self.resolution != locked.resolution:
            yield f"the resolution is {self.resolution}; the lock has {locked.resolution}"
        if self.exclude_newer != locked.exclude_newer:
            yield f"exclude-newer is {self.exclude_newer or 'not set'}; the lock has {locked.exclude_newer or 'none'}"
        if self.exclude_undated != locked.exclude_undated:
            yield f"exclude-undated is {_flag(self.exclude_undated)}; the lock has {_flag(locked.exclude_undated)}"
        if self.licenses != locked.licenses:
            yield f"licenses that are allowed are {_listed(self.licenses)}; the lock has {_listed(locked.licenses)}"


def _flag(value: object) -> str:
    return "true" if value else "false"


def _listed(licenses: tuple[str, ...] | None) -> str:
    return "any" if licenses is None else ", ".join(licenses) or "none"


def _override(name: PackageName, overrides: dict[PackageName, str]) -> str:
    constraint = overrides.get(name)
    return f"no override of {name}" if constraint is None else f"the override {name} {constraint}".rstrip()
