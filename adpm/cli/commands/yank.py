"""``adpm yank``."""

from __future__ import annotations

import click

from adpm.cli.output import Output
from adpm.cli.project import REGISTRY, project_or_none
from adpm.core.names import PackageName, parse_version
from adpm.ops.registries import named_registry


@click.command()
@click.argument("name")
@click.argument("version")
@REGISTRY
@click.option("--reason", default="", help="Shown to those who ask for it.")
@click.pass_obj
def command(output: Output, name: str, version: str, registry: str, reason: str) -> None:
    """Withdraw a release from new resolutions. Locks that pin it go on working; nothing is deleted."""
    target = named_registry(registry, project_or_none(output), output.directory)
    changed = target.yank(PackageName.parse(name), parse_version(version), reason)
    output.say(f"yanked {name} {version} from {registry}" if changed else f"{name} {version} was yanked before")
