"""``adpm diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from adpm.cli.listener import change_text
from adpm.cli.output import Output, count_text, size_text
from adpm.core.files import LOCK_FILE
from adpm.core.release import Blob
from adpm.ops.diff import Declared, Difference, FileChange, PackageChange, diff, lock_at
from adpm.ops.root import find_root
from adpm.ops.workspace import enclosing

_SIGNS: Final = {(False, True): "+", (True, False): "-", (True, True): "~"}


@click.command()
@click.argument("old", default="HEAD")
@click.argument("new", default=LOCK_FILE)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, old: str, new: str, *, as_json: bool) -> None:
    """Compare two locks: OLD (HEAD) and NEW (the project's adapter.lock), each a file, a directory or a git revision.

    Shows bases, requirements and compositions that differ, then releases with their files, and how many bytes an
    install would fetch that has the old lock's.
    """
    directory = Path(find_root(str(output.directory)) or output.directory)
    directory = enclosing(directory) or directory
    before, after = lock_at(old, directory), lock_at(new, directory)
    found = diff(before, after)
    if as_json:
        output.json("adpm.diff/1", _value(found))
        return
    for declared in found.declared:
        output.data(_declared_text(declared))
    for package in found.packages:
        for line in _lines(package):
            output.data(line)
    changed = sum(len(package.files) for package in found.packages)
    count = count_text(len(found.packages), "release")
    output.say(
        f"{count} and {count_text(changed, 'file')} differ, {size_text(found.fetched)} new, "
        f"{size_text(found.dropped)} no longer needed"
        if found.packages or found.declared
        else "the two locks say the same"
    )


def _declared_text(declared: Declared) -> str:
    sign = _SIGNS[declared.before is not None, declared.after is not None]
    return f"{sign} {declared.path}: " + " -> ".join(filter(None, (declared.before, declared.after)))


def _lines(package: PackageChange) -> list[str]:
    moved = package.change.before == package.change.after  # another release of one version, or of another registry
    note = f" ({_short(package.releases[0])} -> {_short(package.releases[1])})" if moved else ""
    old, new = package.origins
    note += f" (from {old} to {new})" if old and new and old != new else ""
    return [change_text(package.change) + note, *(f"    {_file_text(file)}" for file in package.files)]


def _short(digest: str | None) -> str:
    return "" if digest is None else digest.removeprefix("sha256:")[:12]


def _file_text(file: FileChange) -> str:
    sizes = " -> ".join(size_text(blob.size) for blob in (file.before, file.after) if blob is not None)
    return f"{_SIGNS[file.before is not None, file.after is not None]} {file.path}  {sizes}"


def _value(found: Difference) -> dict[str, Any]:
    return {
        "declared": [{"path": d.path, "before": d.before, "after": d.after} for d in found.declared],
        "packages": [
            {
                "package": p.change.package,
                "before": _end(p, 0),
                "after": _end(p, 1),
                "files": [{"path": f.path, "before": _blob(f.before), "after": _blob(f.after)} for f in p.files],
            }
            for p in found.packages
        ],
        "fetched": found.fetched,
        "dropped": found.dropped,
    }


def _end(package: PackageChange, end: int) -> dict[str, Any] | None:
    version = (package.change.before, package.change.after)[end]
    if version is None:
        return None
    return {"version": str(version), "release": package.releases[end], "from": package.origins[end]}


def _blob(blob: Blob | None) -> dict[str, Any] | None:
    return None if blob is None else {"digest": blob.digest, "size": blob.size}
