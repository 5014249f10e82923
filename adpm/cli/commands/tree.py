"""``adpm tree``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from adpm.cli.output import Output
from adpm.core.lock import Lock, LockedPackage
from adpm.ops.project import Project
from adpm.ops.tree import Branch, tree
from adpm.ops.why import Dependent, find_locked
from adpm.ops.why import invert as inverted


@click.command()
@click.argument("package", metavar="[PACKAGE]", required=False)
@click.option("--invert", is_flag=True, help="Show who requires PACKAGE, or every package that requires no other.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, package: str | None, *, invert: bool, as_json: bool) -> None:
    """Show which adapter requires which, as locked."""
    if package is not None and not invert:
        raise click.UsageError("a PACKAGE is for --invert; 'adpm tree' shows all that is locked")
    lock = Project.find(output.directory).need_lock()
    if invert:
        _show_inverted(output, lock, package, as_json=as_json)
        return
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


def _show_inverted(output: Output, lock: Lock, package: str | None, *, as_json: bool) -> None:
    trees = inverted(lock, None if package is None else find_locked(lock, package))
    if as_json:
        output.json("adpm.tree-inverted/1", {"packages": [_dependent_value(top) for top in trees]})
        return
    for top in trees:
        output.data(_dependent_label(top))
        for line in _dependent_lines(top.dependents, ""):
            output.data(line)


def _dependent_lines(dependents: Sequence[Dependent], indent: str) -> Iterator[str]:
    for i, dependent in enumerate(dependents):
        last = i == len(dependents) - 1
        yield f"{indent}{'`-- ' if last else '|-- '}{_dependent_label(dependent)}"
        yield from _dependent_lines(dependent.dependents, indent + ("    " if last else "|   "))


def _dependent_label(dependent: Dependent) -> str:
    who, requirement = dependent.who, dependent.requirement
    name = f"{who.name} {who.version}" if isinstance(who, LockedPackage) else str(who)
    wants = f" requires {requirement}" if isinstance(who, LockedPackage) else f": {requirement}"
    again = " (who requires it stands above)" if dependent.seen else ""
    return name + (wants if requirement is not None else "") + again


def _dependent_value(dependent: Dependent) -> dict[str, Any]:
    who, requirement = dependent.who, dependent.requirement
    named = {"package": who.name, "version": str(who.version)} if isinstance(who, LockedPackage) else {"alias": who}
    return {
        **named,
        "requirement": None if requirement is None else str(requirement),
        "required_by": [_dependent_value(inner) for inner in dependent.dependents],
    }


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
