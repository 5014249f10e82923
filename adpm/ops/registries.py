"""A project's registries, opened as its manifest declares them."""

from __future__ import annotations

from pathlib import Path

from adpm.core.names import PackageName
from adpm.net.url import shown
from adpm.ops.project import Project
from adpm.registry.chain import Chain, Found
from adpm.registry.open import open_registry
from adpm.registry.port import Registry
from adpm.store.home import home

__all__ = ["find_package", "named_registry", "open_chain"]


def open_chain(project: Project) -> Chain:
    """The chain of the project's registries; indexes from the network are cached in the store's directory."""
    return Chain.of(project.manifest.registries, project.root, Path(home()) / "indexes")


def find_package(package: PackageName, project: Project | None, directory: Path, registry: str | None) -> Found:
    """The releases of ``package``: from the registry of ``project`` that owns it, or from ``registry``, which may be
    one that the project does not name; see ``named_registry``."""
    if registry is None or (project is not None and not _is_address(registry)):
        return open_chain(project or Project.find(directory)).find(package, registry)
    asked = named_registry(registry, project, directory)
    return Found(asked, asked.versions(package))


def _is_address(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "://" in name


def named_registry(name: str, project: Project | None, directory: Path) -> Registry:
    """The registry that ``project`` calls ``name``; where ``name`` is a path or URL, the one that is there.

    A path is relative to ``directory``, and begins with ``.``, ``/`` or ``~`` so that it can't be taken for a name.
    """
    if _is_address(name):
        return open_registry(shown(name) if "://" in name else name, name, directory)
    return (open_chain(project) if project is not None else Chain(())).registry(name)
