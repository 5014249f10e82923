"""``adpm impact``."""

from __future__ import annotations

import os
from typing import Any

import click

from adpm.cli.output import Output, count_text
from adpm.core.manifest import BaseSource
from adpm.errors import BaseMismatchError
from adpm.formats.base import base_value
from adpm.ops.impact import Impact, impact
from adpm.ops.project import Project
from adpm.ops.registries import open_chain
from adpm.store.store import Store


@click.command()
@click.option("--base", required=True, metavar="DIR_OR_ID", help="The other base: a directory, or an id in the cache.")
@click.option("--revision", metavar="REVISION", help="Of an id: its branch, tag or commit (default: main).")
@click.option("--instead-of", metavar="NAME", help="Of several bases, the one that it would replace.")
@click.option("--offline", is_flag=True, envvar="ADPM_OFFLINE", help="Ask no registry.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(
    output: Output, base: str, revision: str | None, instead_of: str | None, *, offline: bool, as_json: bool
) -> None:
    """Show which locked adapters would fit another base, from their cards alone; fails if one would not."""
    project = Project.find(output.directory)
    path = os.path.abspath(output.directory / base)
    other = BaseSource(path=path) if os.path.isdir(path) else BaseSource(model=base, revision=revision)
    chain = None if offline else (lambda: open_chain(project))
    found = impact(project, Store.default(), other, chain, instead_of=instead_of)
    if as_json:
        output.json("adpm.impact/1", _value(found))
    else:
        for verdict in found.verdicts:
            unsure = "fits" if verdict.known else "may fit: its card does not say what it was trained on"
            said = unsure if verdict.reason is None else f"does not fit: {verdict.reason}"
            output.data(f"{verdict.name}  {verdict.package.name} {verdict.package.version}  {said}")
        if found.tokenizer == "other":
            output.say("note: the other base has another tokenizer than the locked one", style="yellow")
    if found.misfits:
        raise BaseMismatchError(
            "impact-misfit",
            f"{count_text(found.misfits, 'adapter')} of {len(found.verdicts)} would not fit {base}",
            hint=f"name {base} as the base in adapter.yaml; 'adpm update --dry-run' then looks for releases that fit",
        )


def _value(found: Impact) -> dict[str, Any]:
    return {
        "base": base_value(found.base),
        "tokenizer": found.tokenizer,
        "adapters": [
            {
                "name": verdict.name,
                "package": verdict.package.name,
                "version": str(verdict.package.version),
                "base": verdict.package.base,
                "fits": verdict.reason is None if verdict.known else None,
                "reason": verdict.reason,
            }
            for verdict in found.verdicts
        ],
    }
