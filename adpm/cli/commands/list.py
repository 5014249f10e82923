"""``adpm list``."""

from __future__ import annotations

import click

from adpm.cli.output import Output, size_text
from adpm.formats.source import lock_source_value
from adpm.ops.project import Project
from adpm.ops.tree import rows


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, *, as_json: bool) -> None:
    """List the locked adapters: alias, package, version, size, where it is from."""
    found = list(rows(Project.find(output.directory).need_lock()))
    if as_json:
        entries = [
            {
                "alias": row.alias,
                "package": row.package.name,
                "version": str(row.package.version),
                "release": row.package.manifest.digest,
                "size": row.size,
                "registry": row.package.registry,
                "base": row.package.base,
                "slot": row.package.slot,
                "source": None if row.package.source is None else lock_source_value(row.package.source),
            }
            for row in found
        ]
        output.json("adpm.list/1", {"adapters": entries})
        return
    output.table(
        [
            (row.alias or "-", row.package.key, str(row.package.version), size_text(row.size), row.package.origin)
            for row in found
        ],
        header=("ALIAS", "PACKAGE", "VERSION", "SIZE", "FROM"),
    )
