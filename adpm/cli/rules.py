"""The options of commands that resolve: they stand in for what adapter.yaml says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from adpm.core.moment import cutoff
from adpm.core.rules import RESOLUTIONS, Resolution
from adpm.ops.project import Project

__all__ = ["resolving", "with_rules"]

F = TypeVar("F", bound=Callable[..., Any])


def resolving(command: F) -> F:
    """Give ``command`` the options ``--resolution`` and ``--exclude-newer``."""
    command = click.option(
        "--exclude-newer",
        metavar="TIME",
        help="Leave out what was published later: a date, an RFC 3339 time, or an age such as P7D.",
    )(command)
    return click.option(
        "--resolution", type=click.Choice(RESOLUTIONS), help="Prefer the newest releases, or the oldest that will do."
    )(command)


def with_rules(project: Project, resolution: Resolution | None, exclude_newer: str | None) -> Project:
    """``project`` as these options want it; None leaves what its manifest says."""
    rules = project.manifest.rules
    if resolution is not None:
        rules = replace(rules, resolution=resolution)
    if exclude_newer is not None:
        rules = replace(rules, exclude_newer=cutoff(exclude_newer))
    return project.ruled(rules)
