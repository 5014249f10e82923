"""``adpm lock``."""

from __future__ import annotations

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output
from adpm.cli.rules import resolving, with_rules
from adpm.core.rules import Resolution
from adpm.ops.install import check_lock
from adpm.ops.lock import lock
from adpm.ops.project import Project
from adpm.store.store import Store


@click.command()
@click.option("--locked", is_flag=True, help="Only check: fail if adapter.lock does not belong to adapter.yaml.")
@click.option("--offline", is_flag=True, help="Ask no registry.")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@resolving
@click.pass_obj
def command(
    output: Output,
    resolution: Resolution | None,
    exclude_newer: str | None,
    *,
    locked: bool,
    offline: bool,
    dry_run: bool,
) -> None:
    """Resolve adapter.yaml into adapter.lock. Locked versions are kept where adapter.yaml allows it."""
    project = with_rules(Project.find(output.directory), resolution, exclude_newer)
    store = Store.default()
    if locked:
        check_lock(project, project.need_lock(), store)
        return
    with Narrator(output) as narrator:
        result = lock(project, store, offline=offline, listener=narrator)
    if dry_run:
        return
    output.say("wrote adapter.lock" if project.write(result.lock) else "adapter.lock is up to date")
