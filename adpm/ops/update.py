"""``adpm update``: let locked adapters move to newer releases."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.core.events import Listener, ignore
from adpm.core.names import Alias
from adpm.errors import NotFoundError
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["update"]


def update(project: Project, store: Store, aliases: Sequence[str] = (), *, listener: Listener = ignore) -> Locked:
    """The lock in which ``aliases`` (none: all) move to the newest releases that the manifest allows.

    Of the others, what no alias names moves only where an updated release needs it to; what an alias names stays, and
    the updated ones are as new as that allows.
    """
    wanted = {wanted.alias: wanted.requirement.name for wanted in project.manifest.adapters}
    unknown = [alias for alias in aliases if alias not in wanted]
    if unknown:
        raise NotFoundError(
            "alias-unknown",
            f"adapter.yaml has no adapter {unknown[0]!r}",
            hint=f"its adapters are: {', '.join(wanted) or 'none'}",
        )
    return lock(project, store, update={wanted[Alias(alias)] for alias in aliases}, listener=listener)
