"""``adpm licenses``."""

from __future__ import annotations

from typing import Any

import click

from adpm.cli.output import Output
from adpm.ops.licenses import Licenses, licenses
from adpm.ops.project import Project
from adpm.ops.registries import open_chain
from adpm.store.store import Store

_UNSTATED = "not stated"


@click.command()
@click.option("--offline", is_flag=True, envvar="ADPM_OFFLINE", help="Ask no registry.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, *, offline: bool, as_json: bool) -> None:
    """Show what bases, locked adapters and compositions are licensed under."""
    project = Project.find(output.directory)
    found = licenses(project, Store.default(), None if offline else (lambda: open_chain(project)))
    if as_json:
        output.json("adpm.licenses/1", _value(found))
        return
    rows = [("base", name or "-", stated or _UNSTATED) for name, stated in found.bases.items()]
    rows += [
        (entry.name, f"{entry.package.name} {entry.package.version}", entry.license or _UNSTATED)
        for entry in found.adapters
    ]
    rows += [
        (f"compose.{name}", "-", ", ".join(part or _UNSTATED for part in parts))
        for name, parts in found.compositions.items()
    ]
    output.table(rows, header=("NAME", "PACKAGE", "LICENSE"))


def _value(found: Licenses) -> dict[str, Any]:
    return {
        "bases": [{"name": name, "license": stated} for name, stated in found.bases.items()],
        "adapters": [
            {
                "name": entry.name,
                "package": entry.package.name,
                "version": str(entry.package.version),
                "license": entry.license,
            }
            for entry in found.adapters
        ],
        "compositions": {name: list(parts) for name, parts in found.compositions.items()},
    }
