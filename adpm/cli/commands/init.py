"""``adpm init``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from adpm.cli.output import Output
from adpm.core.manifest import BaseSource
from adpm.errors import UsageError
from adpm.ops.init import init


@click.command()
@click.option("--base", required=True, metavar="DIR_OR_ID", help="The base model: a local directory, or a model id.")
@click.option("--path", metavar="DIR", help="Where the files of the base with that id lie on this machine.")
@click.pass_obj
def command(output: Output, base: str, path: str | None) -> None:
    """Write adapter.yaml for a project on a base model."""
    directory = output.directory
    place = directory / Path(base).expanduser()
    if path is None and base.startswith((".", "/", "~")) and not place.is_dir():
        raise UsageError(
            "base-not-found",
            f"the base's directory {base} does not exist",
            cause=f"looked for {place}",
            hint="correct the path, or name the base by its model id: adpm init --base google-bert/bert-base-uncased",
        )
    if path is None and place.is_dir():
        source = BaseSource(path=_seen_from(directory, base))
    else:
        source = BaseSource(model=base, path=None if path is None else _seen_from(directory, path))
    written = init(directory, source)
    output.say(f"wrote {written}; add adapters with 'adpm add NAME'")


def _seen_from(directory: Path, path: str) -> str:
    """A relative path as the manifest in ``directory`` needs it; an absolute or home path as the user wrote it."""
    return path if os.path.isabs(path) or path.startswith("~") else os.path.relpath(directory / path, directory)
