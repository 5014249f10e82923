"""The part of ``adpm lock`` that reads what the files mean."""

from __future__ import annotations

from adpm.cli.listener import Narrator
from adpm.cli.output import Output
from adpm.cli.rules import with_rules
from adpm.core.rules import Resolution
from adpm.ops.belongs import two_files_decide
from adpm.ops.install import check_lock
from adpm.ops.lock import lock
from adpm.ops.project import Project
from adpm.ops.root import note_belongs
from adpm.store.store import Store

__all__ = ["run_lock"]


def run_lock(
    output: Output,
    resolution: Resolution | None,
    exclude_newer: str | None,
    *,
    locked: bool,
    offline: bool,
    dry_run: bool,
) -> None:
    """Check, or resolve and write the project's lock; remember that it belongs to its manifest."""
    declared = Project.find(output.directory).together
    project = with_rules(declared, resolution, exclude_newer)
    store = Store.default()
    if locked:
        found = project.need_lock()
        check_lock(project, found, store)
    else:
        with Narrator(output) as narrator:
            found = lock(project, store, offline=offline, listener=narrator).lock
        if dry_run:
            return
        output.say("wrote adapter.lock" if project.write(found) else "adapter.lock is up to date")
    if project == declared and two_files_decide(project, found):
        note_belongs(str(project.root))
