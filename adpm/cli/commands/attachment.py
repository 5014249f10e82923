"""``adpm attachment``."""

from __future__ import annotations

from pathlib import Path

import click

from adpm.cli.output import Output
from adpm.cli.project import REGISTRY, project_or_none
from adpm.core.names import PackageName, parse_version
from adpm.ops.attachments import attach, attachments, save_attachment
from adpm.ops.registries import named_registry
from adpm.store.store import Store


@click.group()
def command() -> None:
    """Add, list and fetch what is attached to a release: signatures, evaluations, model cards of others."""


@command.command("add")
@click.argument("package")
@click.argument("version")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--type", "kind", required=True, metavar="TYPE", help="Their media type, such as application/spdx+json.")
@REGISTRY
@click.pass_obj
def add(output: Output, package: str, version: str, files: tuple[Path, ...], *, kind: str, registry: str) -> None:
    """Attach FILES to the release of VERSION. The release itself, and its digest, stay what they are."""
    name, which = PackageName.parse(package), parse_version(version)
    target = named_registry(registry, project_or_none(output), output.directory)
    there = attach(target, name, which, [output.directory / file for file in files], kind)
    output.say(f"+ {there.manifest.digest} ({kind}) at {name} {which}")


@command.command("list")
@click.argument("package")
@click.argument("version")
@REGISTRY
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def list_(output: Output, package: str, version: str, registry: str, *, as_json: bool) -> None:
    """Show what is attached to the release of VERSION, by whomever."""
    name, which = PackageName.parse(package), parse_version(version)
    found = attachments(named_registry(registry, project_or_none(output), output.directory), name, which)
    if as_json:
        entries = [{"digest": entry.manifest.digest, "type": entry.kind} for entry in found]
        output.json("adpm.attachments/1", {"package": name, "version": str(which), "attachments": entries})
        return
    output.table([(entry.manifest.digest, entry.kind) for entry in found], header=("ATTACHMENT", "TYPE"))


@command.command("get")
@click.argument("package")
@click.argument("version")
@click.argument("digest")
@click.option("--to", "directory", default=".", type=click.Path(path_type=Path), help="The directory for its files.")
@REGISTRY
@click.pass_obj
def get(output: Output, package: str, version: str, digest: str, *, directory: Path, registry: str) -> None:
    """Fetch the files of one attachment; DIGEST may be shortened. They are verified, what they say is not."""
    name, which = PackageName.parse(package), parse_version(version)
    target = named_registry(registry, project_or_none(output), output.directory)
    for path in save_attachment(target, name, which, digest, to=output.directory / directory, store=Store.default()):
        output.data(str(path))
