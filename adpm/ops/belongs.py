"""Whether a lock belongs to its project: to what the manifest says, and to what the directories that it names hold."""

from __future__ import annotations

from collections.abc import Iterator

from adpm.core.lock import Lock
from adpm.core.source import PathSource
from adpm.ops.project import Project, differences
from adpm.store.store import Store

__all__ = ["has_paths", "out_of_date", "two_files_decide"]


def has_paths(lock: Lock) -> bool:
    """Whether ``lock`` holds directories of this machine, which may change at any time."""
    return any(isinstance(package.source, PathSource) for package in lock.packages.values())


def two_files_decide(project: Project, lock: Lock) -> bool:
    """Whether it hangs on the bytes of manifest and lock alone if they belong together: on no other directory."""
    bases = (project.manifest.base, *project.manifest.bases.values())
    alone = not has_paths(lock) and not project.together.texts
    return alone and not any(base.path is not None for base in bases if base)


def out_of_date(project: Project, lock: Lock, store: Store) -> Iterator[str]:
    """How ``lock`` does not belong to ``project``, a sentence each; nothing where it does. Asks no network."""
    yield from differences(project.manifest, lock)
    if two_files_decide(project, lock):
        return
    if any(base.path is not None for base in (project.manifest.base, *project.manifest.bases.values()) if base):
        from adpm.ops.base import base_differences  # noqa: PLC0415 - as below

        yield from base_differences(project, lock)
    if has_paths(lock):
        from adpm.ops.direct import path_differences  # noqa: PLC0415 - most projects need not pay for it

        yield from path_differences(project.root, lock, store)
