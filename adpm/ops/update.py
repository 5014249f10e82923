"""``adpm update``: let locked adapters move to newer releases."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.core.events import Listener, ignore
from adpm.core.lock import LockedAdapter, package_key
from adpm.core.manifest import Wanted
from adpm.core.requirement import Requirement
from adpm.core.workspace import qualified
from adpm.errors import NotFoundError
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["update"]


def update(project: Project, store: Store, aliases: Sequence[str] = (), *, listener: Listener = ignore) -> Locked:
    """The lock in which ``aliases`` (none: all) move to the newest releases that the manifest allows.

    In a workspace that is the lock of all its members; ``aliases`` are those of this one, at the root qualified ones.

    Of the others, what no alias names moves only where an updated release needs it to; what an alias names stays, and
    the updated ones are as new as that allows.
    """
    before = project.lock()
    locked = {} if before is None else before.adapters
    wanted = {wanted.alias: wanted for wanted in project.manifest.adapters}
    unknown = [alias for alias in aliases if alias not in wanted]
    if unknown:
        raise NotFoundError(
            "alias-unknown",
            f"{project.manifest_name} has no adapter {unknown[0]!r}",
            hint=f"its adapters are: {', '.join(wanted) or 'none'}",
        )
    if not aliases and project.whole is None:
        return lock(project, store, update=(), listener=listener)
    if not aliases:
        keys = set() if before is None else {*before.of_members([project.member]).packages}
    else:
        together = {wanted.alias: wanted for wanted in project.together.manifest.adapters}
        named = [qualified(project.member, alias) for alias in aliases]
        keys = {key for alias in named if (key := _key(together[alias], locked.get(alias))) is not None}
    return lock(project, store, update=keys or None, listener=listener)


def _key(wanted: Wanted, locked: LockedAdapter | None) -> str | None:
    """The key of the package that an alias stands for; None for a direct source that was never locked."""
    if isinstance(wanted.requirement, Requirement):
        return package_key(wanted.requirement.name, wanted.base, wanted.slot)
    return None if locked is None else locked.key
