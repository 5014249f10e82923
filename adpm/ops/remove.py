"""``adpm remove``: one requirement less in the manifest, and the lock that belongs to it."""

from __future__ import annotations

from adpm.core.events import Listener, ignore
from adpm.core.names import Alias
from adpm.formats.edit import remove_adapter
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["remove"]


def remove(project: Project, store: Store, alias: Alias, *, listener: Listener = ignore) -> tuple[Project, Locked]:
    """The project without ``alias``, and its lock. Raises ``NotFoundError`` (``alias-unknown``)."""
    edited = project.edited(remove_adapter(project.manifest_bytes, alias, project.manifest_name, project.context))
    return edited, lock(edited, store, listener=listener)
