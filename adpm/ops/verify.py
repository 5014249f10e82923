"""``adpm verify``: hash everything in the store again, and see that it holds what the lock pins."""

from __future__ import annotations

import os
from dataclasses import dataclass

from adpm.core.lock import Lock
from adpm.core.names import Digest, PackageName
from adpm.store.store import Store

__all__ = ["Report", "verify"]


@dataclass(frozen=True, slots=True)
class Report:
    """``corrupt``: objects set aside; ``missing``: (package, file) of the lock that the store now lacks."""

    objects: int
    size: int
    corrupt: tuple[Digest, ...]
    missing: tuple[tuple[PackageName, str], ...]

    @property
    def sound(self) -> bool:
        return not self.corrupt and not self.missing


def verify(store: Store, lock: Lock | None) -> Report:
    """Hash every object with one thread a core; a damaged one is set aside, and ``adpm install`` fetches it again."""
    found = store.verify_all(os.cpu_count() or 1)
    packages = () if lock is None else lock.packages.values()
    missing = tuple(
        (package.name, path) for package in packages for path, blob in package.blobs() if not store.has(blob)
    )
    return Report(found.objects, found.size, found.corrupt, missing)
