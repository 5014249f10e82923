"""``adpm registry rebuild``: derive a registry's indexes anew from its releases."""

from __future__ import annotations

from adpm.core.names import PackageName
from adpm.errors import UsageError
from adpm.registry.port import IndexedRegistry, Registry

__all__ = ["rebuild"]


def rebuild(registry: Registry, package: PackageName | None = None) -> dict[PackageName, int]:
    """Rebuild the index of ``package``, or of all packages; how many releases each lists now.

    Raises ``UsageError`` (``registry-without-index``) for a kind of registry that keeps none.
    """
    names = [package] if package is not None else registry.packages()
    if not isinstance(registry, IndexedRegistry) or names is None:
        raise UsageError(
            "registry-without-index",
            f"{registry} has no indexes that could be rebuilt from here",
            hint="run this where the registry's directory lies",
        )
    return {name: len(registry.rebuild_index(name)) for name in names}
