"""``adpm remove``: one requirement less in the manifest, and the lock that belongs to it."""

from __future__ import annotations

from adpm.core.events import Listener, ignore
from adpm.core.names import Alias
from adpm.core.workspace import unqualified
from adpm.formats.edit import remove_adapter
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["remove"]


def remove(project: Project, store: Store, alias: str, *, listener: Listener = ignore) -> tuple[Project, Locked]:
    """The project without ``alias``, and its lock; at a workspace's root ``MEMBER:ALIAS`` is one of a member.

    Raises ``NotFoundError`` (``alias-unknown``).
    """
    member, own = unqualified(alias)
    if member != project.member and member in project.manifest.members:
        project = project.seen_from(member)
    else:
        own = Alias.parse(alias)
    edited = project.edited(remove_adapter(project.manifest_bytes, own, project.manifest_name, project.context))
    return edited, lock(edited, store, listener=listener)
