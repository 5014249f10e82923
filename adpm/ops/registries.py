"""A project's registries, opened as its manifest declares them."""

from __future__ import annotations

from pathlib import Path

from adpm.net.url import shown
from adpm.ops.project import Project
from adpm.registry.chain import Chain
from adpm.registry.open import open_registry
from adpm.registry.port import Registry
from adpm.store.home import home

__all__ = ["named_registry", "open_chain"]


def open_chain(project: Project) -> Chain:
    """The chain of the project's registries; indexes from the network are cached in the store's directory."""
    return Chain.of(project.manifest.registries, project.root, Path(home()) / "indexes")


def named_registry(name: str, project: Project | None, directory: Path) -> Registry:
    """The registry that ``project`` calls ``name``; where ``name`` is a path or URL, the one that is there.

    A path is relative to ``directory``, and begins with ``.``, ``/`` or ``~`` so that it can't be taken for a name.
    """
    if name.startswith((".", "/", "~")):
        return open_registry(name, name, directory)
    if "://" in name:
        return open_registry(shown(name), name, directory)
    return (open_chain(project) if project is not None else Chain(())).registry(name)
