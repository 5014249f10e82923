"""``adpm update``."""

from __future__ import annotations

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output
from adpm.cli.resolving import resolving
from adpm.cli.rules import with_rules
from adpm.core.rules import Resolution
from adpm.ops.install import install
from adpm.ops.project import Project
from adpm.ops.update import update
from adpm.store.store import Store


@click.command()
@click.argument("aliases", nargs=-1, metavar="[ALIAS]...")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@resolving
@click.pass_obj
def command(
    output: Output,
    aliases: tuple[str, ...],
    resolution: Resolution | None,
    exclude_newer: str | None,
    *,
    dry_run: bool,
) -> None:
    """Move locked adapters (all, or those named) to the newest releases that adapter.yaml allows, and install them."""
    project = with_rules(Project.find(output.directory), resolution, exclude_newer)
    store = Store.default()
    with Narrator(output) as narrator:
        result = update(project, store, aliases, listener=narrator)
        if not result.changes:
            output.say("everything is at its newest release that adapter.yaml allows")
        if dry_run:
            return
        project.write(result.lock)
        install(project, project.part(result.lock), store, listener=narrator)
