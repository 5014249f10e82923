"""The options of commands that work with a part of the lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["grouped"]

F = TypeVar("F", bound=Callable[..., Any])


def grouped(command: F) -> F:
    """Give ``command`` the options ``--group`` (as ``groups``) and ``--only``."""
    command = click.option("--only", multiple=True, metavar="GROUP", help="This group of adapters alone.")(command)
    return click.option("--group", "groups", multiple=True, metavar="GROUP", help="This group of adapters too.")(
        command
    )
