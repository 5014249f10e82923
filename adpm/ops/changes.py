"""What changed between two locks, as events for a listener and as values for a program."""

from __future__ import annotations

from collections.abc import Iterator

from adpm.core.events import Changed
from adpm.core.lock import Lock
from adpm.core.names import PackageName

__all__ = ["changes"]


def changes(before: Lock | None, after: Lock) -> Iterator[Changed]:
    """Packages added, removed or moved to another version, by key, which stands for the name."""
    old = {} if before is None else before.packages
    for key in sorted({*old, *after.packages}):
        was, now = old.get(key), after.packages.get(key)
        if was is None or now is None or was.manifest != now.manifest:
            yield Changed(PackageName(key), None if was is None else was.version, None if now is None else now.version)
