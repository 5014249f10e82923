"""``adpm merge-driver``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import click

from adpm import limits
from adpm.cli.output import Output
from adpm.core.files import LOCK_FILE
from adpm.errors import AdpmError
from adpm.ops.merge import merge_locks
from adpm.store.durable import replace
from adpm.store.files import read_bounded
from adpm.store.store import Store

_CONFLICT: Final = 1  # what git takes for "there are conflicts", and everything above 128 for "stop the merge"
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("merge-driver")
@click.argument("ancestor", type=_FILE)
@click.argument("ours", type=_FILE)
@click.argument("theirs", type=_FILE)
@click.argument("name", default=LOCK_FILE)
@click.pass_context
def command(ctx: click.Context, ancestor: Path, ours: Path, theirs: Path, name: str) -> None:
    """Merge two locks for git, which calls this with %O %A %B %P. The result replaces OURS; asks no registry.

    Set it up once in a clone: git config merge.adpm.driver 'adpm merge-driver %O %A %B %P', and commit a
    .gitattributes with the line: adapter.lock merge=adpm. Where the two locks can't be merged git's own conflict
    markers are left, for 'adpm lock' to resolve once adapter.yaml is settled.
    """
    output: Output = ctx.obj
    # git gives paths relative to its own directory, whatever -C says; absolute ones can't be taken for options
    files = [path.absolute() for path in (ours, ancestor, theirs)]
    one, old, other = (read_bounded(path, limits.LOCK_BYTES) for path in files)
    try:
        merged = merge_locks(old, one, other, Store.default())
    except AdpmError as error:
        output.error(error)
        output.say(f"{name} keeps git's conflict: settle adapter.yaml, run 'adpm lock', then 'git add {name}'")
        _leave_conflict(files, old, one, other)
        ctx.exit(_CONFLICT)
    replace(files[0].parent, files[0], merged)


def _leave_conflict(files: list[Path], *versions: bytes) -> None:
    """Git's own merge of the lines, in place; where that sees no conflict the whole files as one."""
    call = ["git", "merge-file", "--diff3", "-L", "ours", "-L", "ancestor", "-L", "theirs", *map(str, files)]
    try:
        found = subprocess.run(call, check=False, stdin=subprocess.DEVNULL).returncode  # noqa: S603 - paths are absolute
    except FileNotFoundError:
        found = 0
    if not 0 < found < 128:
        ancestor, ours, theirs = (data if data.endswith(b"\n") else data + b"\n" for data in versions)
        parts = (b"<<<<<<< ours\n", ours, b"||||||| ancestor\n", ancestor, b"=======\n", theirs, b">>>>>>> theirs\n")
        replace(files[0].parent, files[0], b"".join(parts))
