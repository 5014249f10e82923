"""``adpm init``: a manifest where there was none."""

from __future__ import annotations

from pathlib import Path

from adpm.core.files import MANIFEST_FILE
from adpm.core.manifest import BaseSource
from adpm.errors import UsageError
from adpm.formats.edit import new_manifest
from adpm.store.durable import create

__all__ = ["init"]


def init(directory: Path, base: BaseSource | None) -> Path:
    """Write ``adapter.yaml`` for a project on ``base``; the file's path. Never replaces one that is there.

    None: for a member of a workspace, which takes base and registries from the root.
    """
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        raise UsageError("not-a-directory", f"{directory} is not a directory", hint="make it first")
    if not create(directory, path, new_manifest(base), mode=0o644):
        raise UsageError("project-exists", f"{path} exists", hint="edit it, or run 'adpm add' to add adapters to it")
    return path
