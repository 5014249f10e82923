"""The project of a call, for commands that work without one too."""

from __future__ import annotations

import click

from adpm.cli.output import Output
from adpm.ops.project import Project
from adpm.ops.root import find_root

__all__ = ["REGISTRY", "project_or_none"]

REGISTRY = click.option(
    "--registry", required=True, metavar="NAME", help="A registry of the project, or a path or URL."
)


def project_or_none(output: Output) -> Project | None:
    """The project at or above the call's directory; None where there is none. A broken one is an error all the same."""
    root = find_root(str(output.directory))
    return None if root is None else Project.find(output.directory)
