"""Whether a lock belongs to its project: to what the manifest says, and to what the directories that it names hold."""

from __future__ import annotations

from collections.abc import Iterator

from adpm.core.lock import Lock
from adpm.core.source import PathSource
from adpm.ops.project import Project, differences
from adpm.store.store import Store

__all__ = ["has_paths", "out_of_date"]


def has_paths(lock: Lock) -> bool:
    """Whether ``lock`` holds directories of this machine, which may change at any time."""
    return any(isinstance(package.source, PathSource) for package in lock.packages.values())


def out_of_date(project: Project, lock: Lock, store: Store) -> Iterator[str]:
    """How ``lock`` does not belong to ``project``, a sentence each; nothing where it does. Asks no network."""
    yield from differences(project.manifest, lock)
    if has_paths(lock):
        from adpm.ops.direct import path_differences  # noqa: PLC0415 - most projects need not pay for it

        yield from path_differences(project.root, lock, store)
