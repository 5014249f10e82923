"""``adpm verify``."""

from __future__ import annotations

import click

from adpm.cli.groups import grouped
from adpm.cli.output import Output, size_text
from adpm.cli.project import project_or_none
from adpm.errors import IntegrityError
from adpm.ops.verify import Report, verify
from adpm.store.store import Store


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@grouped
@click.pass_obj
def command(output: Output, groups: tuple[str, ...], only: tuple[str, ...], *, as_json: bool) -> None:
    """Hash every object in the store again, and see that it holds what adapter.lock pins."""
    project = project_or_none(output)
    lock = None if project is None or project.lock_bytes() is None else project.need_lock()
    report = verify(Store.default(), None if lock is None else lock.selected(groups, only))
    if as_json:
        output.json("adpm.verify/1", _value(report))
    else:
        output.data(f"{report.objects} objects, {size_text(report.size)}: {len(report.corrupt)} damaged")
    if not report.sound:
        raise IntegrityError(
            "store-damaged",
            f"{len(report.corrupt)} objects were damaged and {len(report.missing)} locked files are missing",
            cause="\n".join(f"{name}: {path}" for name, path in report.missing[:20]) or None,
            hint="the damaged ones were set aside; 'adpm install' fetches what is missing",
        )


def _value(report: Report) -> dict[str, object]:
    return {
        "objects": report.objects,
        "size": report.size,
        "corrupt": list(report.corrupt),
        "missing": [{"package": name, "file": path} for name, path in report.missing],
    }
