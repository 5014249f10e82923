"""``adpm add``: one more requirement in the manifest, and the lock that belongs to it."""

from __future__ import annotations

import re

from adpm.core.events import Listener, ignore
from adpm.core.files import MANIFEST_FILE
from adpm.core.manifest import Wanted
from adpm.core.names import Alias, PackageName
from adpm.core.requirement import Requirement
from adpm.formats.edit import add_adapter
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["add", "default_alias"]


def default_alias(name: PackageName) -> Alias:
    """The last part of the name, with what an alias can't hold replaced: ``text/sst-2`` is ``sst-2``."""
    last = re.sub(r"[^a-z0-9_-]", "-", name.rpartition("/")[2])
    return Alias.parse(last if last[0].isalpha() else f"a{last}")


def add(
    project: Project,
    store: Store,
    requirement: Requirement,
    *,
    alias: Alias | None = None,
    registry: str | None = None,
    offline: bool = False,
    listener: Listener = ignore,
) -> tuple[Project, Locked]:
    """The project with ``requirement`` added (or replaced, if the alias is taken), and its lock."""
    wanted = Wanted(alias or default_alias(requirement.name), requirement, registry)
    edited = project.edited(add_adapter(project.manifest_bytes, wanted, MANIFEST_FILE))
    return edited, lock(edited, store, offline=offline, listener=listener)
