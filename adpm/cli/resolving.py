"""The options of commands that resolve. Apart from ``rules``: a no-op ``adpm lock`` must not pay for a project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from adpm.core.rules import RESOLUTIONS

__all__ = ["resolving"]

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
