"""``adpm init``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from adpm.cli.output import Output
from adpm.core.manifest import BaseSource
from adpm.ops.init import init


@click.command()
@click.option("--base", required=True, metavar="DIR_OR_ID", help="The base model: a local directory, or a model id.")
@click.pass_obj
def command(output: Output, base: str) -> None:
    """Write adapter.yaml for a project on a base model."""
    directory = output.directory
    local = Path(base).is_dir()
    path = init(directory, BaseSource(path=os.path.relpath(base, directory)) if local else BaseSource(model=base))
    output.say(f"wrote {path}; add adapters with 'adpm add NAME'")
