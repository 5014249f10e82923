"""``adpm update``: let locked adapters move to newer releases."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.core.events import Listener, ignore
from adpm.core.lock import LockedAdapter
from adpm.core.names import Alias, PackageName
from adpm.core.requirement import Requirement
from adpm.core.source import Source
from adpm.errors import NotFoundError
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["update"]


def update(project: Project, store: Store, aliases: Sequence[str] = (), *, listener: Listener = ignore) -> Locked:
    """The lock in which ``aliases`` (none: all) may move to the newest releases that the manifest allows."""
    before = project.lock()
    locked = {} if before is None else before.adapters
    wanted = {wanted.alias: wanted.requirement for wanted in project.manifest.adapters}
    unknown = [alias for alias in aliases if alias not in wanted]
    if unknown:
        raise NotFoundError(
            "alias-unknown",
            f"adapter.yaml has no adapter {unknown[0]!r}",
            hint=f"its adapters are: {', '.join(wanted) or 'none'}",
        )
    names = {_package(wanted[Alias(alias)], locked.get(Alias(alias))) for alias in aliases}
    known = {name for name in names if name is not None}
    return lock(project, store, update=known if known or not aliases else None, listener=listener)


def _package(wanted: Requirement | Source, locked: LockedAdapter | None) -> PackageName | None:
    """The package that an alias stands for; None for a direct source that was never locked."""
    if isinstance(wanted, Requirement):
        return wanted.name
    return None if locked is None else locked.requirement.name
