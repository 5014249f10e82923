"""``adpm install``."""

from __future__ import annotations

import click

from adpm.cli.groups import grouped
from adpm.cli.output import Output, count_text
from adpm.ops.root import find_root, installed


@click.command()
@click.option("--locked", is_flag=True, help="Fail if adapter.lock does not belong to adapter.yaml.")
@click.option("--frozen", is_flag=True, help="Do not compare adapter.lock with adapter.yaml.")
@click.option("--offline", is_flag=True, envvar="ADPM_OFFLINE", help="Ask no registry; fail if something is missing.")
@grouped
@click.option("-p", "--package", "members", multiple=True, metavar="MEMBER", help="Of a workspace, this member alone.")
@click.pass_obj
def command(
    output: Output,
    groups: tuple[str, ...],
    only: tuple[str, ...],
    members: tuple[str, ...],
    *,
    locked: bool,
    frozen: bool,
    offline: bool,
) -> None:
    """Fetch what adapter.lock pins into the store. Never changes adapter.yaml or adapter.lock.

    In a workspace's member that is its part, at the root all.
    """
    if locked and frozen:
        raise click.UsageError("--locked compares the lock with the manifest, --frozen does not: give one of them")
    root = find_root(str(output.directory))
    packages = None if root is None or groups or only or members else installed(root)
    if packages is None:
        from adpm.cli.install import run_install  # noqa: PLC0415 - what a no-op install must not pay for

        packages = run_install(output, groups, only, members, locked=locked, frozen=frozen, offline=offline)
    output.say(f"{count_text(packages, 'package')} installed")
