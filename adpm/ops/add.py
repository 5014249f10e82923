"""``adpm add``: one more requirement in the manifest, and the lock that belongs to it."""

from __future__ import annotations

import re
from pathlib import Path

from adpm.core.events import Listener, ignore
from adpm.core.manifest import Wanted
from adpm.core.names import Alias
from adpm.core.requirement import Requirement
from adpm.core.source import GitSource, PathSource, Source
from adpm.formats.edit import add_adapter
from adpm.ops.lock import Locked, lock
from adpm.ops.project import Project
from adpm.store.store import Store

__all__ = ["add", "default_alias"]


def default_alias(requirement: Requirement | Source) -> Alias:
    """The last part of a name or address, with what an alias can't hold replaced: ``text/sst-2`` is ``sst-2``."""
    if isinstance(requirement, Requirement):
        name: str = requirement.name
    elif isinstance(requirement, PathSource):
        name = Path(requirement.path).absolute().name
    elif isinstance(requirement, GitSource):
        name = (requirement.subdirectory or requirement.url.removesuffix("/").removesuffix(".git")).lower()
    else:
        name = requirement.repository.lower()
    last = re.sub(r"[^A-Za-z0-9_-]", "-", name.rpartition("/")[2])
    return Alias.parse(last if last[:1].isalpha() else f"a{last}")


def add(
    project: Project,
    store: Store,
    requirement: Requirement | Source,
    *,
    alias: Alias | None = None,
    registry: str | None = None,
    base: str | None = None,
    slot: str | None = None,
    offline: bool = False,
    listener: Listener = ignore,
) -> tuple[Project, Locked]:
    """The project with ``requirement`` added (or replaced, if the alias is taken), and its lock."""
    wanted = Wanted(alias or default_alias(requirement), requirement, registry, base, slot)
    edited = project.edited(add_adapter(project.manifest_bytes, wanted, project.manifest_name, project.context))
    return edited, lock(edited, store, offline=offline, listener=listener)
