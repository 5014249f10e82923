"""What the project's base is: read from its files where they lie here, from its id alone where they don't."""

from __future__ import annotations

import os
from pathlib import Path

from adpm.core.base import BaseIdentity
from adpm.core.manifest import BaseSource
from adpm.errors import UsageError
from adpm.formats.model import read_model
from adpm.ops.project import Project

__all__ = ["hub_snapshot", "identify", "project_base"]


def project_base(project: Project) -> BaseIdentity | None:
    """The base that ``project`` declares; None where it declares none."""
    base = project.manifest.base
    return None if base is None else identify(base, project.root)


def identify(base: BaseSource, relative_to: Path) -> BaseIdentity:
    """The identity of ``base``: with shape and sketch where its files can be read without a network.

    ``base.path`` is relative to ``relative_to``. Without one, a snapshot in the Hugging Face Hub's cache will do.
    """
    if base.path is not None:
        directory = relative_to / Path(base.path).expanduser()
        if not directory.is_dir():
            raise UsageError(
                "base-not-found",
                f"the base's directory {base.path} does not exist",
                hint="correct base.path in adapter.yaml, or name the base by its model id alone",
            )
    else:
        found = None if base.model is None else hub_snapshot(base.model, base.revision or "main")
        if found is None:
            return BaseIdentity(base.model, base.revision, None, None)
        directory = found
    shape, sketch = read_model(directory)
    return BaseIdentity(base.model, base.revision, shape, sketch)


def hub_snapshot(model: str, revision: str) -> Path | None:
    """Where the Hub's cache on this machine holds ``model`` at ``revision`` (a branch, tag or commit), if it does."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = cache / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if (snapshot / "config.json").is_file() else None
