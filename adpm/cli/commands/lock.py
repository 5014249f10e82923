"""``adpm lock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adpm.cli.output import Output
from adpm.cli.resolving import resolving
from adpm.ops.root import belongs, find_root

if TYPE_CHECKING:
    from adpm.core.rules import Resolution


@click.command()
@click.option("--locked", is_flag=True, help="Only check: fail if adapter.lock does not belong to adapter.yaml.")
@click.option("--offline", is_flag=True, envvar="ADPM_OFFLINE", help="Ask no registry.")
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
    """Resolve adapter.yaml into adapter.lock. Locked versions are kept where adapter.yaml allows it.

    A lock with git's conflict markers is resolved out of both sides.
    """
    root = find_root(str(output.directory))
    if root is not None and resolution is None and exclude_newer is None and belongs(root):
        if not locked and not dry_run:
            output.say("adapter.lock is up to date")
        return
    from adpm.cli.lock import run_lock  # noqa: PLC0415 - what a no-op lock must not pay for

    run_lock(output, resolution, exclude_newer, locked=locked, offline=offline, dry_run=dry_run)
