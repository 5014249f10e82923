"""``adpm registry``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from adpm.cli.output import Output, count_text
from adpm.cli.project import project_or_none
from adpm.core.address import has_secret
from adpm.core.files import MANIFEST_FILE
from adpm.core.manifest import RegistrySource
from adpm.core.names import PackageName
from adpm.errors import UsageError
from adpm.formats.edit import add_registry, remove_registry
from adpm.formats.manifest import registry_name
from adpm.net.url import shown
from adpm.ops.project import Project
from adpm.ops.rebuild import rebuild
from adpm.ops.registries import named_registry


@click.group()
def command() -> None:
    """Add, list, remove and check the registries of the project; rebuild an index."""


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--packages", "patterns", multiple=True, metavar="PATTERN", help="Names that it owns, such as 'team/*'.")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Another place that may serve its files.")
@click.pass_obj
def add(output: Output, name: str, url: str, patterns: tuple[str, ...], mirrors: tuple[str, ...]) -> None:
    """Declare a registry behind the others: a directory, or the address of one."""
    project = Project.find(output.directory).together
    secret = next((address for address in (url, *mirrors) if has_secret(address)), None)
    if secret is not None:
        raise UsageError(
            "url-invalid",
            "the URL has a user or password in it",
            cause="it would be written to adapter.yaml, where others read it",
            hint=f"give it without; 'adpm login {urlsplit(shown(secret)).netloc}' keeps it where only you can read it",
        )
    registry = RegistrySource(registry_name(name), url, patterns, mirrors)
    project.edited(add_registry(project.manifest_bytes, registry, MANIFEST_FILE)).write_manifest()
    output.say(f"+ registry {name} {url}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def list_(output: Output, *, as_json: bool) -> None:
    """Show the registries in the order in which they are asked."""
    registries = Project.find(output.directory).manifest.registries
    if as_json:
        entries: list[dict[str, Any]] = [
            {"name": r.name, "url": r.url, "packages": list(r.packages), "mirrors": list(r.mirrors)} for r in registries
        ]
        output.json("adpm.registries/1", {"registries": entries})
        return
    rows = [(r.name, r.url, ", ".join(r.packages), ", ".join(r.mirrors)) for r in registries]
    output.table(rows, header=("NAME", "URL", "PACKAGES", "MIRRORS"))


@command.command("remove")
@click.argument("name")
@click.pass_obj
def remove(output: Output, name: str) -> None:
    """Forget a registry."""
    project = Project.find(output.directory).together
    project.edited(remove_registry(project.manifest_bytes, name, MANIFEST_FILE)).write_manifest()
    output.say(f"- registry {name}")


@command.command("check")
@click.argument("name")
@click.option("--write", is_flag=True, help="Try writing too; what that writes is removed again.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def check(output: Output, name: str, *, write: bool, as_json: bool) -> None:
    """Try what a registry (by name, path or URL) can and can't do, and say it."""
    registry = named_registry(name, project_or_none(output), output.directory)
    abilities = []
    for ability in registry.check(write=write):
        abilities.append(ability)
        if not as_json:
            sign = {True: "yes", False: "no", None: "-"}[ability.ok]
            output.data(f"{ability.name:18} {sign:4} {ability.words}")
    if as_json:
        found = [{"name": a.name, "ok": a.ok, "words": a.words} for a in abilities]
        output.json("adpm.registry-check/1", {"registry": registry.name, "url": registry.address, "abilities": found})


@command.command("rebuild")
@click.argument("name")
@click.argument("package", required=False)
@click.pass_obj
def rebuild_(output: Output, name: str, package: str | None) -> None:
    """Derive the indexes of a registry (of all its packages, or of one) anew from its releases."""
    registry = named_registry(name, project_or_none(output), output.directory)
    wanted = None if package is None else PackageName.parse(package)
    for found, releases in rebuild(registry, wanted).items():
        output.say(f"{found}: {count_text(releases, 'release')}")
