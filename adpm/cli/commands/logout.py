"""``adpm logout``."""

from __future__ import annotations

import click

from adpm.cli.output import Output
from adpm.ops.login import logout, other_source, place_of


@click.command()
@click.argument("host")
@click.pass_obj
def command(output: Output, host: str) -> None:
    """Forget the login that 'adpm login' keeps for HOST. A token stays good: withdraw it where it was made."""
    place = place_of(host)
    output.say(f"forgot the login for {place}" if logout(place) else f"no login was kept for {place}")
    source = other_source(place)
    if source is not None:
        output.say(f"note: {source} has a login for it too", style="yellow")
