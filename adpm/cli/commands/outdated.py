"""``adpm outdated``."""

from __future__ import annotations

from typing import Any, Final

import click

from adpm.cli.output import Output
from adpm.ops.outdated import Outdated, outdated
from adpm.ops.project import Project

_OUTDATED: Final = 1  # the exit status where something is


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """List locked packages of which there are newer releases, or whose release was yanked: exit status 1 if any.

    Shown are the locked version, the newest that adapter.yaml and the other locked releases allow, the newest of all,
    and who holds that back.
    """
    output: Output = ctx.obj
    project = Project.find(output.directory)
    found = outdated(project, project.need_lock())
    if as_json:
        output.json("adpm.outdated/1", {"packages": [_value(entry) for entry in found]})
    else:
        header = ("PACKAGE", "ALIASES", "LOCKED", "ALLOWED", "NEWEST", "NOTE")
        output.table([_row(entry) for entry in found], header=header)
        if not found:
            output.say("every locked release is the newest there is")
    if found:
        ctx.exit(_OUTDATED)


def _row(entry: Outdated) -> tuple[str, ...]:
    return (
        entry.package.key,
        ",".join(entry.aliases) or "-",
        str(entry.package.version),
        str(entry.allowed),
        str(entry.newest or "-"),
        "; ".join(_notes(entry)),
    )


def _notes(entry: Outdated) -> list[str]:
    yanked = [] if entry.yanked is None else [f"locked release was yanked: {entry.yanked}".rstrip(": ")]
    gone = [] if entry.listed else [f"{entry.package.origin} does not list the locked release"]
    return [*yanked, *gone, *(f"held by {held}" for held in entry.held_by)]


def _value(entry: Outdated) -> dict[str, Any]:
    return {
        "package": entry.package.name,
        "aliases": list(entry.aliases),
        "locked": str(entry.package.version),
        "allowed": str(entry.allowed),
        "newest": None if entry.newest is None else str(entry.newest),
        "held_by": list(entry.held_by),
        "yanked": entry.yanked,
        "listed": entry.listed,
        "registry": entry.package.registry,
    }
