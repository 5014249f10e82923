"""``adpm update``: let locked adapters move to newer releases."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.core.events import Listener, ignore
from adpm.core.lock import package_key
from adpm.core.names import Alias
from adpm.errors import NotFoundError
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["update"]


def update(project: Project, store: Store, aliases: Sequence[str] = (), *, listener: Listener = ignore) -> Locked:
    """The lock in which ``aliases`` (none: all) may move to the newest releases that the manifest allows."""
    wanted = {w.alias: package_key(w.requirement.name, w.base, w.slot) for w in project.manifest.adapters}
    unknown = [alias for alias in aliases if alias not in wanted]
    if unknown:
        raise NotFoundError(
            "alias-unknown",
            f"adapter.yaml has no adapter {unknown[0]!r}",
            hint=f"its adapters are: {', '.join(wanted) or 'none'}",
        )
    return lock(project, store, update={wanted[Alias(alias)] for alias in aliases}, listener=listener)
