"""``adpm publish``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output, size_text
from adpm.cli.project import project_or_none
from adpm.core.manifest import BaseSource
from adpm.core.names import Channel
from adpm.core.release import Listing
from adpm.ops.publish import Prepared, prepare, publish
from adpm.ops.registries import named_registry
from adpm.store.store import Store


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--registry", required=True, metavar="NAME", help="A registry of the project, or a path or URL.")
@click.option("--base", metavar="DIR_OR_ID", help="The base it was trained for, in place of what DIR says.")
@click.option("--init", is_flag=True, help="Make the registry if there is none yet.")
@click.option("--channel", metavar="NAME", help="Let this channel of the package mean the release.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be published.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(
    output: Output,
    directory: str,
    registry: str,
    base: str | None,
    channel: str | None,
    *,
    init: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the adapter in DIR as a release. DIR holds adapter.yaml with 'package:', a config and weights."""
    store = Store.default()
    movable = None if channel is None else Channel.parse(channel)
    source = None
    if base is not None:
        local = (output.directory / base).is_dir()
        source = BaseSource(path=os.path.abspath(output.directory / base)) if local else BaseSource(model=base)
    with Narrator(output) as narrator:
        prepared = prepare(output.directory / Path(directory), store, base=source, listener=narrator)
    listing, created = None, not dry_run
    if not dry_run:
        target = named_registry(registry, project_or_none(output), output.directory)
        listing, created = publish(prepared, target, store, init=init, channel=movable)
    if as_json:
        output.json("adpm.publish/1", _value(prepared, listing, created=created))
        return
    what = f"{prepared.card.name} {prepared.card.version} ({len(prepared.files)} files, {size_text(prepared.size)})"
    if dry_run:
        output.say(f"would publish {what}")
    elif created:
        output.say(f"published {what} to {registry}", style="green")
    else:
        output.say(f"{prepared.card.name} {prepared.card.version} is published already, with the same content")
    if movable is not None and not dry_run:
        output.say(f"{prepared.card.name}@{movable} is {prepared.card.version} now")
    output.data(prepared.digest)


def _value(prepared: Prepared, listing: Listing | None, *, created: bool) -> dict[str, Any]:
    return {
        "package": prepared.card.name,
        "version": str(prepared.card.version),
        "release": prepared.digest,
        "files": {file.path: {"digest": file.blob.digest, "size": file.blob.size} for file in prepared.files},
        "created": created,
        "published": None if listing is None else listing.published,
    }
