"""``adpm init``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from adpm.cli.output import Output
from adpm.core.manifest import BaseSource
from adpm.errors import UsageError
from adpm.ops.init import init
from adpm.ops.workspace import enclosing


@click.command()
@click.option("--base", metavar="DIR_OR_ID", help="The base model: a local directory, or a model id.")
@click.option("--path", metavar="DIR", help="Where the files of the base with that id lie on this machine.")
@click.pass_obj
def command(output: Output, base: str | None, path: str | None) -> None:
    """Write adapter.yaml for a project on a base model.

    A member of a workspace may leave --base out, and then has that of the workspace's root.
    """
    directory = output.directory
    source = None if base is None else _source(directory, base, path)
    if source is None and (path is not None or enclosing(directory) is None):
        raise click.UsageError("Missing option '--base'.")
    written = init(directory, source)
    output.say(f"wrote {written}; add adapters with 'adpm add NAME'")


def _source(directory: Path, base: str, path: str | None) -> BaseSource:
    place = directory / os.path.expanduser(base)
    if path is None and base.startswith((".", "/", "~")) and not place.is_dir():
        raise UsageError(
            "base-not-found",
            f"the base's directory {base} does not exist",
            cause=f"looked for {place}",
            hint="correct the path, or name the base by its model id: adpm init --base google-bert/bert-base-uncased",
        )
    if path is None and place.is_dir():
        return BaseSource(path=_seen_from(directory, base))
    return BaseSource(model=base, path=None if path is None else _seen_from(directory, path))


def _seen_from(directory: Path, path: str) -> str:
    """A relative path as the manifest in ``directory`` needs it; an absolute or home path as the user wrote it."""
    return path if os.path.isabs(path) or path.startswith("~") else os.path.relpath(directory / path, directory)
