"""What is said where ``--offline`` stands in the way."""

from __future__ import annotations

from collections.abc import Sequence

from adpm.core.lock import LockedPackage
from adpm.core.release import Blob
from adpm.errors import LockOutdatedError, NetworkError
from adpm.net.offline import VARIABLE
from adpm.net.url import shown
from adpm.ops.project import Project

__all__ = ["not_in_store", "not_locked"]

_LISTED = 20
_HINT = f"run the command once without --offline and without {VARIABLE}"


def not_in_store(project: Project, missing: Sequence[tuple[LockedPackage, Blob]]) -> NetworkError:
    """What is missing of which packages, by the registry or source that has it."""
    sizes: dict[LockedPackage, list[int]] = {}
    for package, blob in missing:
        sizes.setdefault(package, []).append(blob.size)
    places: dict[str, list[str]] = {}
    for package, found in sizes.items():
        files = f"{len(found)} file{'' if len(found) == 1 else 's'}, {sum(found)} bytes"
        places.setdefault(_origin(project, package), []).append(f"{package.name} {package.version} ({files})")
    lines = [f"{place}: {', '.join(_shortened(packages))}" for place, packages in places.items()]
    return NetworkError(
        "offline",
        f"{len(missing)} files of {len(sizes)} packages are not in the store",
        cause="\n".join(lines),
        hint=_HINT,
        packages=tuple(package.name for package in sizes),
    )


def not_locked(project: Project, differences: Sequence[str]) -> LockOutdatedError:
    """Which differences would have to be resolved, and who would have to be asked."""
    asked = ", ".join(f"{registry.name} ({shown(registry.url)})" for registry in project.manifest.registries)
    return LockOutdatedError(
        "lock-outdated",
        "adapter.lock does not belong to adapter.yaml, and resolving it anew needs the registries",
        cause="\n".join([*_shortened(differences or ["there is no adapter.lock"]), f"to be asked: {asked or 'none'}"]),
        hint=_HINT,
    )


def _origin(project: Project, package: LockedPackage) -> str:
    if package.registry is None:
        return f"from {package.source}"
    urls = {registry.name: shown(registry.url) for registry in project.manifest.registries}
    return f"from registry {package.registry} ({urls.get(package.registry, 'not declared any more')})"


def _shortened(items: Sequence[str]) -> list[str]:
    return [*items[:_LISTED], *([f"and {len(items) - _LISTED} more"] if len(items) > _LISTED else [])]
