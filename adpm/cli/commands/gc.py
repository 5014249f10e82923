"""``adpm gc``."""

from __future__ import annotations

import click

from adpm.cli.output import Output, size_text
from adpm.ops.collect import collect
from adpm.store.store import Store


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, *, dry_run: bool, as_json: bool) -> None:
    """Remove from the store what no known project's lock names."""
    found = collect(Store.default(), dry_run=dry_run)
    if as_json:
        value = {
            "objects": found.objects,
            "size": found.size + found.leftovers,
            "kept": found.kept,
            "forgotten": [str(path) for path in found.forgotten],
            "dry_run": dry_run,
        }
        output.json("adpm.gc/1", value)
        return
    for path in found.forgotten:
        output.say(f"{path} is gone; its project is forgotten")
    verb = "would remove" if dry_run else "removed"
    output.data(f"{verb} {found.objects} objects, {size_text(found.size + found.leftovers)}; kept {found.kept}")
