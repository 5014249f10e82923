"""``adpm checkout``."""

from __future__ import annotations

from pathlib import Path

import click

from adpm.cli.groups import grouped
from adpm.cli.output import Output
from adpm.ops.checkout import checkout
from adpm.ops.project import Project
from adpm.store.store import Store


@click.command()
@click.argument("target", default="adapters", metavar="[DIR]")
@grouped
@click.pass_obj
def command(output: Output, target: str, groups: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Link the locked adapters out as plain directories under DIR (default: adapters)."""
    project = Project.find(output.directory)
    done = checkout(project.need_lock().selected(groups, only), Store.default(), output.directory / Path(target))
    output.table([(name, str(directory)) for name, directory in done.directories.items()], header=("NAME", "DIRECTORY"))
    output.detail(", ".join(f"{count} files by {way}" for way, count in sorted(done.ways.items())))
