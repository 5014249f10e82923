"""``adpm tree``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from adpm.cli.output import Output
from adpm.ops.project import Project
from adpm.ops.tree import Branch, tree


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, *, as_json: bool) -> None:
    """Show which adapter requires which, as locked."""
    lock = Project.find(output.directory).need_lock()
    branches = tree(lock)
    if as_json:
        compositions = {str(name): str(composition) for name, composition in lock.compose.items()}
        output.json("adpm.tree/1", {"adapters": [_value(branch) for branch in branches], "compose": compositions})
        return
    for branch in branches:
        output.data(f"{branch.alias}: {_label(branch)}")
        for line in _lines(branch.branches, ""):
            output.data(line)
    for name, composition in lock.compose.items():
        output.data(f"{name} = {composition}")


def _lines(branches: Sequence[Branch], indent: str) -> Iterator[str]:
    for i, branch in enumerate(branches):
        last = i == len(branches) - 1
        yield f"{indent}{'`-- ' if last else '|-- '}{_label(branch)}"
        yield from _lines(branch.branches, indent + ("    " if last else "|   "))


def _label(branch: Branch) -> str:
    wanted = f" ({branch.requirement.constraint})" if branch.requirement.constraint else ""
    again = " (its requirements stand above)" if branch.seen else ""
    return f"{branch.package.key} {branch.package.version}{wanted}{again}"


def _value(branch: Branch) -> dict[str, Any]:
    value: dict[str, Any] = {
        "package": branch.package.name,
        "version": str(branch.package.version),
        "requirement": str(branch.requirement),
        "requires": [_value(inner) for inner in branch.branches],
    }
    if branch.alias is not None:
        value["alias"] = branch.alias
    return value
