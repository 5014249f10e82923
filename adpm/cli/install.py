"""The part of ``adpm install`` that has something to do."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.cli.listener import Narrator
from adpm.cli.output import Output, count_text, size_text
from adpm.core.lock import Lock
from adpm.ops.belongs import out_of_date
from adpm.ops.install import check_lock, install
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["run_install"]


def run_install(
    output: Output,
    groups: Sequence[str],
    only: Sequence[str],
    members: Sequence[str] = (),
    *,
    locked: bool,
    frozen: bool,
    offline: bool,
) -> int:
    """Install the project's lock and say what came; how many packages are installed now.

    ``members``: of the workspace, whose parts to install instead.
    """
    project = Project.find(output.directory)
    whole, store = project.together.need_lock(), Store.default()
    if locked:
        check_lock(project.together, whole, store)
    elif not frozen:
        _warn(output, project.together, whole, store)
    lock = project.part(whole)
    if members:
        project = project.together
        lock = project.part_of(whole, [project.find_member(word) for word in members])
    with Narrator(output) as narrator:
        done = install(project, lock, store, groups=groups, only=only, offline=offline, listener=narrator)
    if done.packages:
        output.say("\n".join(f"+ {package.name} {package.version}" for package in done.packages), style="green")
        output.say(f"fetched {count_text(len(done.packages), 'package')}, {size_text(done.size)}")
    return done.present


def _warn(output: Output, project: Project, lock: Lock, store: Store) -> None:
    for difference in out_of_date(project, lock, store):
        output.say(f"note: adapter.lock is out of date: {difference}; 'adpm lock' updates it", style="yellow")
