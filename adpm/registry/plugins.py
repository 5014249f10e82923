"""Kinds of registries that other installed packages add, by entry points of the group ``adpm.registries``.

An entry point's name is the scheme of the URLs (``sftp`` for ``sftp://host/path``), its value an ``Opener``
(see ``port``). The kinds that adpm itself knows can't be taken over. ``specs/registry.md`` is the normative text.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from adpm.errors import AdpmError, RegistryError
from adpm.registry.port import Registry

__all__ = ["GROUP", "open_by_plugin"]

GROUP: Final = "adpm.registries"


def open_by_plugin(scheme: str, name: str, url: str, base_dir: Path, cache: Path | None) -> Registry | None:
    """The registry at ``url``, opened by the package that knows its scheme; None where none does.

    Raises ``RegistryError`` (``registry-plugin-broken``), and the plugin's own ``AdpmError``.
    """
    found = {point.value: point for point in entry_points(group=GROUP, name=scheme)}
    if not found:
        return None
    if len(found) > 1:
        raise _broken(
            scheme, list(found.values()), "more than one package wants to open these", "uninstall all but one"
        )
    (point,) = found.values()
    try:
        registry = point.load()(name, url, base_dir, cache)
    except AdpmError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise _broken(scheme, [point], why, "update or uninstall it, or tell who maintains it") from error
    if not isinstance(registry, Registry):
        why = f"it gave a {type(registry).__name__}, which is no registry"
        raise _broken(scheme, [point], why, "update or uninstall it, or tell who maintains it")
    return registry


def _broken(scheme: str, points: list[EntryPoint], why: str, hint: str) -> RegistryError:
    packages = sorted({"an unknown package" if point.dist is None else point.dist.name for point in points})
    return RegistryError(
        "registry-plugin-broken",
        f"{scheme}:// registries are opened by {' and '.join(packages)}, and that does not work",
        cause=f"{', '.join(point.value for point in points)}: {why}",
        hint=hint,
        packages=packages,
    )
