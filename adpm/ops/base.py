"""What the project's base is: read from its files where they lie here, from its id alone where they don't."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from adpm.core.base import BaseIdentity
from adpm.core.lock import Lock
from adpm.core.manifest import BaseSource
from adpm.errors import UsageError
from adpm.formats.model import read_model, read_tokenizer
from adpm.ops.project import Project

__all__ = ["base_differences", "base_directory", "declared_base", "hub_snapshot", "identify", "project_bases"]


def project_bases(project: Project, before: Lock | None = None) -> dict[str | None, BaseIdentity | None]:
    """The bases that ``project`` declares, by name, with their tokenizers.

    One that stands under ``base:`` has the name None; so has the one that is not known, where none is declared. Of one
    that is not on this machine counts what ``before`` knows of it, so that every machine writes the same lock.
    """
    manifest = project.manifest
    if manifest.bases:
        known = {} if before is None else before.bases
        return {name: _or_locked(base, project, known.get(name)) for name, base in manifest.bases.items()}
    if manifest.base is None:
        return {None: None}
    return {None: _or_locked(manifest.base, project, None if before is None else before.base)}


def _or_locked(base: BaseSource, project: Project, locked: BaseIdentity | None) -> BaseIdentity:
    found = declared_base(base, project.root)
    same = locked is not None and (locked.model, locked.revision) == (found.model, found.revision)
    return locked if locked is not None and same and found.shape is None else found


def base_differences(project: Project, lock: Lock) -> Iterator[str]:
    """Which bases in directories of this machine are not what was locked, a sentence each; one that is gone is none."""
    declared = {None: project.manifest.base} if lock.base is not None else dict(project.manifest.bases)
    for name, base in declared.items():
        locked = lock.base if name is None else lock.bases.get(name)
        if base is None or base.path is None or locked is None or not (project.root / base.path).is_dir():
            continue
        now = declared_base(base, project.root)
        if now != locked:
            reason = locked.misfit(now) or "its tokenizer, or what is known of its weights"
            yield f"the base in {base.path} is not what was locked: {reason.replace('trained for', 'locked were')}"


def declared_base(base: BaseSource, relative_to: Path) -> BaseIdentity:
    """``identify``, with the digest of the tokenizer: as a lock holds the project's base."""
    directory = base_directory(base, relative_to)
    found = identify(base, relative_to)
    return found if directory is None else replace(found, tokenizer=read_tokenizer(directory))


def identify(base: BaseSource, relative_to: Path) -> BaseIdentity:
    """The identity of ``base``: with shape and sketch where its files can be read without a network.

    ``base.path`` is relative to ``relative_to``. Without one, a snapshot in the Hugging Face Hub's cache will do.
    """
    directory = base_directory(base, relative_to)
    shape, sketch = (None, None) if directory is None else read_model(directory)
    return BaseIdentity(base.model, base.revision, shape, sketch)


def base_directory(base: BaseSource, relative_to: Path) -> Path | None:
    """Where the files of ``base`` lie on this machine; None if they don't."""
    if base.path is None:
        return None if base.model is None else hub_snapshot(base.model, base.revision or "main")
    directory = relative_to / Path(base.path).expanduser()
    if not directory.is_dir():
        raise UsageError(
            "base-not-found",
            f"the base's directory {base.path} does not exist",
            hint="correct base.path in adapter.yaml, or name the base by its model id alone",
        )
    return directory


def hub_snapshot(model: str, revision: str) -> Path | None:
    """Where the Hub's cache on this machine holds ``model`` at ``revision`` (a branch, tag or commit), if it does."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = cache / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if (snapshot / "config.json").is_file() else None
