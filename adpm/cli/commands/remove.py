"""``adpm remove``."""

from __future__ import annotations

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output
from adpm.ops.project import Project
from adpm.ops.remove import remove
from adpm.store.store import Store


@click.command()
@click.argument("alias")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@click.pass_obj
def command(output: Output, alias: str, *, dry_run: bool) -> None:
    """Remove an adapter from adapter.yaml and adapter.lock, with what only it required."""
    project = Project.find(output.directory)
    with Narrator(output) as narrator:
        edited, result = remove(project, Store.default(), alias, listener=narrator)
    if not dry_run:
        edited.write(result.lock)
