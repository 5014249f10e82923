"""``adpm login``."""

from __future__ import annotations

import sys

import click

from adpm import limits
from adpm.cli.output import Output
from adpm.net.credentials import checked_login
from adpm.ops.login import keep, place_of, verify


@click.command()
@click.argument("host")
@click.option("--user", metavar="NAME", help="Who you are there (else you are asked).")
@click.option("--token", "by_token", is_flag=True, help="Log in with a token, which you are asked for, not a password.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--token-stdin", is_flag=True, help="Read a token from standard input.")
@click.option("--no-keyring", is_flag=True, help="Keep it in a file that you alone can read.")
@click.pass_obj
def command(
    output: Output,
    host: str,
    user: str | None,
    *,
    by_token: bool,
    password_stdin: bool,
    token_stdin: bool,
    no_keyring: bool,
) -> None:
    """Keep the login for HOST (or HOST:PORT). Given the URL of a registry, ask there first whether it is good."""
    place = place_of(host)
    by_token = by_token or token_stdin
    if (by_token and (user or password_stdin)) or (token_stdin and password_stdin):
        raise click.UsageError("a token stands alone: leave out --user and --password-stdin")
    piped = password_stdin or token_stdin
    if not piped and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: use --password-stdin or --token-stdin")
    if user is None and not by_token:
        if piped:
            raise click.UsageError("--password-stdin needs --user")
        user = str(click.prompt(f"User at {place}", err=True))
    what = "token" if by_token else "password"
    secret = _piped() if piped else str(click.prompt(f"{what.capitalize()} for {place}", hide_input=True, err=True))
    login = checked_login(None if by_token else user, secret, "standard input" if piped else "what you typed")
    let_in = verify(host, login) if "://" in host else None
    kept = keep(place, login, keyring=not no_keyring)
    if let_in is False:
        output.say(
            f"note: there is no registry at {host}, so {place} may not have looked at this login", style="yellow"
        )
    if kept.file is not None and kept.why is not None:
        output.say(f"note: no keyring is used: {kept.why}")
    where = "in the keyring" if kept.file is None else f"in {kept.file}, which only you can read"
    tried = f"{place} let you in: " if let_in else ""
    output.say(f"{tried}the {what} for {place} is kept {where}")


def _piped() -> str:
    return sys.stdin.read(limits.RECORD_BYTES).removesuffix("\n").removesuffix("\r")
