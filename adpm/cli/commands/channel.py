"""``adpm channel``."""

from __future__ import annotations

import click

from adpm.cli.output import Output
from adpm.cli.project import REGISTRY, project_or_none
from adpm.core.names import Channel, PackageName, parse_version
from adpm.errors import RegistryError
from adpm.ops.channels import channels
from adpm.ops.registries import named_registry


@click.group()
def command() -> None:
    """Set, list and remove the channels of a package: movable names for its releases, such as 'prod'."""


@command.command("set")
@click.argument("package")
@click.argument("channel")
@click.argument("version")
@REGISTRY
@click.pass_obj
def set_(output: Output, package: str, channel: str, version: str, registry: str) -> None:
    """Let CHANNEL mean the release of VERSION. Locks keep what it meant until 'adpm update'."""
    name, movable, target = PackageName.parse(package), Channel.parse(channel), parse_version(version)
    found = named_registry(registry, project_or_none(output), output.directory)
    before = found.set_channel(name, movable, target)
    was = {entry.manifest.digest: str(entry.version) for entry in found.versions(name)}
    told = "" if before is None else f" (was {was.get(before, before)})"
    output.say(f"{name}@{movable} is {target} now{told}")


@command.command("list")
@click.argument("package")
@REGISTRY
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def list_(output: Output, package: str, registry: str, *, as_json: bool) -> None:
    """Show the channels of a package and what they mean."""
    name = PackageName.parse(package)
    target = named_registry(registry, project_or_none(output), output.directory)
    found = channels(target, name)
    if found is None:
        raise RegistryError(
            "channels-unlisted",
            f"{target} can't list the channels of {name}",
            cause="a web server that takes no writes lists nothing",
            hint=f"ask for one by its name: 'adpm info {name}@CHANNEL --registry {target.name}'",
        )
    if as_json:
        entries = [
            {
                "channel": meaning.channel,
                "release": meaning.release,
                "version": None if meaning.listing is None else str(meaning.listing.version),
                "yanked": None if meaning.listing is None else meaning.listing.yanked,
            }
            for meaning in found
        ]
        output.json("adpm.channels/1", {"package": name, "channels": entries})
        return
    rows = []
    for channel, release, listing in found:
        state = "not listed" if listing is None else "" if listing.yanked is None else "yanked"
        rows.append((channel, "-" if listing is None else str(listing.version), release.short, state))
    output.table(rows, header=("CHANNEL", "VERSION", "RELEASE", ""))


@command.command("remove")
@click.argument("package")
@click.argument("channel")
@REGISTRY
@click.pass_obj
def remove(output: Output, package: str, channel: str, registry: str) -> None:
    """Let CHANNEL mean nothing any more. Locks that were made with it go on working."""
    name, movable = PackageName.parse(package), Channel.parse(channel)
    before = named_registry(registry, project_or_none(output), output.directory).set_channel(name, movable, None)
    output.say(f"- {name}@{movable}" if before is not None else f"{name} had no channel {movable}")
