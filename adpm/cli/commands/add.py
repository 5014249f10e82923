"""``adpm add``."""

from __future__ import annotations

import click

from adpm.cli.listener import Narrator
from adpm.cli.output import Output
from adpm.core.names import Alias
from adpm.core.requirement import Requirement
from adpm.core.source import is_source, parse_source
from adpm.ops.add import add
from adpm.ops.install import install
from adpm.ops.project import Project
from adpm.store.store import Store


@click.command()
@click.argument("requirement")
@click.option("--as", "alias", metavar="ALIAS", help="What the project calls it (default: the name's last part).")
@click.option("--registry", metavar="NAME", help="Ask this registry alone.")
@click.option("--base", metavar="NAME", help="Of several bases, the one that it is for.")
@click.option("--slot", metavar="NAME", help="Lock a release of its own beside another of the package.")
@click.option("--offline", is_flag=True, envvar="ADPM_OFFLINE", help="Ask no registry.")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@click.pass_obj
def command(
    output: Output,
    requirement: str,
    *,
    alias: str | None,
    registry: str | None,
    base: str | None,
    slot: str | None,
    offline: bool,
    dry_run: bool,
) -> None:
    """Add an adapter to adapter.yaml, lock and install it.

    It is a package of a registry ('text/sst-2 >=1,<2'), a directory ('../my-adapter') or a repository
    ('git+https://example.org/x.git#v1.2').
    """
    project, store = Project.find(output.directory), Store.default()
    with Narrator(output) as narrator:
        edited, result = add(
            project,
            store,
            parse_source(requirement) if is_source(requirement) else Requirement.parse(requirement),
            alias=None if alias is None else Alias.parse(alias),
            registry=registry,
            base=None if base is None else Alias.parse(base),
            slot=None if slot is None else Alias.parse(slot),
            offline=offline,
            listener=narrator,
        )
        if dry_run:
            return
        edited.write(result.lock)
        install(edited, edited.part(result.lock), store, offline=offline, listener=narrator)
