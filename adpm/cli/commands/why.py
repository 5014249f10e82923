"""``adpm why``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from adpm.cli.output import Output
from adpm.core.names import Alias
from adpm.ops.project import Project
from adpm.ops.why import Link, find_locked, why


@click.command()
@click.argument("package", metavar="PACKAGE")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, package: str, *, as_json: bool) -> None:
    """Show what leads to a locked package (a name or an alias): from each alias the shortest chain of requirements."""
    lock = Project.find(output.directory).need_lock()
    locked = find_locked(lock, package)
    chains = why(lock, locked)
    if as_json:
        value = {"package": locked.name, "version": str(locked.version)}
        listed = [{"alias": alias, "chain": [_value(link) for link in chain]} for alias, chain in chains]
        output.json("adpm.why/1", {**value, "chains": listed})
        return
    for alias, chain in chains:
        output.data(_line(alias, chain))


def _line(alias: Alias, chain: Sequence[Link]) -> str:
    steps = (
        f"{link.package.name} {link.package.version}"
        + (f" ({link.requirement.constraint})" if link.requirement.constraint else "")
        for link in chain
    )
    return f"{alias}: {' -> '.join(steps)}"


def _value(link: Link) -> dict[str, str]:
    return {
        "package": link.package.name,
        "version": str(link.package.version),
        "requirement": str(link.requirement),
    }
