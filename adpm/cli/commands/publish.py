"""``adpm publish``."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output, size_text
from adpm.cli.project import REGISTRY, project_or_none
from adpm.core.files import MANIFEST_FILE
from adpm.core.manifest import BaseSource
from adpm.core.names import Channel, PackageName, parse_version
from adpm.core.release import Listing
from adpm.ops.package import PackageDirectory, read_package
from adpm.ops.plain import is_plain, plain_package
from adpm.ops.publish import Prepared, prepare, publish
from adpm.ops.registries import named_registry
from adpm.store.store import Store


@click.command()
@click.argument("directory", metavar="DIR")
@REGISTRY
@click.option("--base", metavar="DIR_OR_ID", help="The base it was trained for, in place of what DIR says.")
@click.option("--name", metavar="NAME", help="Of a directory without adapter.yaml: what it is published as.")
@click.option("--version", "number", metavar="VERSION", help="Its version.")
@click.option("--init", is_flag=True, help="Make the registry if there is none yet.")
@click.option("--channel", metavar="NAME", help="Let this channel of the package mean the release.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be published.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(
    output: Output,
    *,
    directory: str,
    registry: str,
    base: str | None,
    name: str | None,
    number: str | None,
    channel: str | None,
    init: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the adapter in DIR as a release.

    DIR holds adapter.yaml with 'package:', a config and weights; or, with --name and --version, what PEFT or AdapterHub
    saved, of which pickled weights are converted.
    """
    if (name is None) != (number is None):
        raise click.UsageError("--name and --version belong together")
    store = Store.default()
    movable = None if channel is None else Channel.parse(channel)
    source = None
    if base is not None:
        local = (output.directory / base).is_dir()
        source = BaseSource(path=os.path.abspath(output.directory / base)) if local else BaseSource(model=base)
    with Narrator(output) as narrator, TemporaryDirectory(prefix="adpm-plain-") as work:
        package = _package(output.directory / Path(directory), name, number, Path(work))
        prepared = prepare(package, store, base=source, listener=narrator)
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


def _package(root: Path, name: str | None, number: str | None, work: Path) -> PackageDirectory:
    if name is None or number is None:
        return read_package(root)
    if (root / MANIFEST_FILE).exists():
        raise click.UsageError(f"{root / MANIFEST_FILE} says name and version: leave out --name and --version")
    if not is_plain(root):
        raise click.UsageError(f"{root} has no adapter_config.json, which PEFT and AdapterHub save with an adapter")
    return plain_package(root, PackageName.parse(name), parse_version(number), work)


def _value(prepared: Prepared, listing: Listing | None, *, created: bool) -> dict[str, Any]:
    return {
        "package": prepared.card.name,
        "version": str(prepared.card.version),
        "release": prepared.digest,
        "files": {file.path: {"digest": file.blob.digest, "size": file.blob.size} for file in prepared.files},
        "created": created,
        "published": None if listing is None else listing.published,
    }
