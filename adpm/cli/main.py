"""The entry point: a table of commands that are imported when called, and one place where errors become exits."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from adpm.cli.output import Output, closest
from adpm.errors import AdpmError
from adpm.version import __version__

__all__ = ["COMMANDS", "cli", "run"]

# In the order in which a user meets them. The help text stands here so that `adpm --help` imports no command.
COMMANDS: Final = {
    "demo": "Run the whole cycle on real adapters in an empty directory.",
    "init": "Write adapter.yaml for a base model.",
    "registry": "Add, list and remove the project's registries.",
    "login": "Keep the login for a registry's host.",
    "logout": "Forget it.",
    "add": "Add an adapter to the project, lock and install it.",
    "remove": "Remove an adapter from the project.",
    "lock": "Resolve adapter.yaml into adapter.lock.",
    "install": "Fetch what adapter.lock pins into the store.",
    "update": "Move locked adapters to newer releases.",
    "list": "List the locked adapters.",
    "tree": "Show which adapter requires which.",
    "impact": "Show which locked adapters would fit another base.",
    "licenses": "Show what is locked under which licenses.",
    "why": "Show what leads to a locked package.",
    "outdated": "List locked packages of which there are newer releases.",
    "diff": "Compare two locks: files, or revisions of git.",
    "info": "Show a package's releases and its card.",
    "checkout": "Link the locked adapters out as plain directories.",
    "publish": "Publish a directory as a release.",
    "channel": "Set, list and remove a package's movable names.",
    "attachment": "Add, list and fetch what is attached to a release.",
    "yank": "Withdraw a release from new resolutions.",
    "verify": "Hash everything in the store and check the lock.",
    "gc": "Remove from the store what no project needs.",
    "merge-driver": "Merge two locks for git.",
}
INTERRUPTED: Final = 130


class LazyGroup(click.Group):
    """A group whose commands are modules under ``adpm.cli.commands``, imported when one is called."""

    # ruff: noqa: ARG002 - the signatures are click's

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"adpm.cli.commands.{cmd_name.replace('-', '_')}").command
        if not isinstance(command, click.Command):  # a module that breaks the table's rule is a defect of adpm
            raise TypeError(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = closest(args[0], COMMANDS)
            meant = f"; did you mean '{close}'?" if close else "; 'adpm --help' lists them"
            raise click.UsageError(f"no such command {args[0]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="adpm %(version)s")
@click.option("-C", "--project", "directory", metavar="DIR", default=".", help="Work as if started in DIR.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour the output.")
@click.pass_context
def cli(ctx: click.Context, directory: str, color: str, *, quiet: bool, verbose: bool) -> None:
    """The package manager for adapters: declare, lock, install, publish, load."""
    ctx.obj = Output(directory=directory, quiet=quiet, verbose=verbose, color=color)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status. Expected failures never show a traceback."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    output = Output.for_errors(args)
    try:
        status = cli.main(args=args, prog_name="adpm", standalone_mode=False)
    except AdpmError as error:
        output.error(error)
        status = error.exit_status
    except click.ClickException as error:
        output.usage(error)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`adpm list | head`): nothing is wrong, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        output.system(error)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
