"""Which registry is asked for which package.

1. A registry that the caller names is asked, and no other.
2. Else, if ``packages:`` patterns of any registry match the name, the first such registry owns it: it alone is asked,
   whether it has the package or not. So nobody can slip a package of yours in from a public registry.
3. Else the registries without patterns are asked in order, and the first that has the package owns it.

Only "I have no such package" leads to the next registry. A registry that can't be reached, wants credentials or gives
broken data ends the search with that error: otherwise the answer would depend on the weather.

A pattern is a name in which ``*`` stands for any characters, ``/`` too: ``team/*``, ``*-internal``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self

from adpm.core.manifest import RegistrySource
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import AdpmError, NotFoundError, UsageError
from adpm.registry.mirrors import Mirrors
from adpm.registry.open import open_registry
from adpm.registry.port import Registry

__all__ = ["Chain", "Found", "Member", "matches"]


@dataclass(frozen=True, slots=True)
class Member:
    """A registry of a chain: its name, the patterns of the names it owns, and how to open it."""

    name: str
    patterns: tuple[str, ...]
    open: Callable[[], Registry]


@dataclass(frozen=True, slots=True)
class Found:
    """A package's releases, and the registry that owns it."""

    registry: Registry
    listings: tuple[Listing, ...]


def matches(pattern: str, name: str) -> bool:
    """Whether ``pattern``, as above, matches the whole of ``name``."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


class Chain:
    """Registries in the order in which the project declares them. Each is opened when first asked; threads may share.

    What a registry listed of a package is remembered as long as the chain lives.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = {member.name: member for member in members}
        self._opened: dict[str, Registry] = {}
        self._found: dict[tuple[PackageName, str | None], Found] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, sources: Sequence[RegistrySource], base_dir: Path, cache: Path | None = None) -> Self:
        """The chain that a manifest declares; see ``open_registry`` for ``base_dir`` and ``cache``."""

        def opened(source: RegistrySource) -> Registry:
            registry = open_registry(source.name, source.url, base_dir, cache)
            if not source.mirrors:
                return registry
            return registry.mirrored(
                Mirrors(
                    source.mirrors,
                    lambda url: open_registry(f"{source.name} (mirror)", url, base_dir, cache, mirror=True),
                )
            )

        return cls(Member(source.name, source.packages, partial(opened, source)) for source in sources)

    def notes(self) -> list[str]:
        """What a user should know of the registries that were asked, a sentence each."""
        with self._lock:
            opened = list(self._opened.values())
        return [f"{registry.name}: {note}" for registry in opened for note in registry.notes()]

    def registry(self, name: str) -> Registry:
        """The registry of this name; ``UsageError`` (``registry-unknown``) if none is called so."""
        with self._lock:
            if name not in self._members:
                close = difflib.get_close_matches(name, self._members, n=1)
                known = ", ".join(self._members) or "none yet"
                raise UsageError(
                    "registry-unknown",
                    f"no registry is called {name!r}",
                    hint=f"did you mean {close[0]!r}?" if close else f"declared are: {known}; see 'adpm registry add'",
                    registry=name,
                )
            if name not in self._opened:
                self._opened[name] = self._members[name].open()
            return self._opened[name]

    def find(self, package: PackageName, registry: str | None = None) -> Found:
        """The releases of ``package``, from the one registry that owns it, or from ``registry`` if that is given.

        Raises ``NotFoundError`` (``package-not-found``) with what may have been meant, and the registries' errors.
        """
        key = (package, registry)
        if key not in self._found:
            self._found[key] = self._ask(package, registry)
        return self._found[key]

    def _ask(self, package: PackageName, registry: str | None) -> Found:
        candidates = self._candidates(package, registry)
        for name in candidates:
            asked = self.registry(name)
            try:
                return Found(asked, asked.versions(package))
            except NotFoundError as error:
                if error.code != "package-not-found":
                    raise
        raise self._not_found(package, candidates)

    def _candidates(self, package: PackageName, registry: str | None) -> list[str]:
        if registry is not None:
            return [registry]
        for member in self._members.values():
            if any(matches(pattern, package) for pattern in member.patterns):
                return [member.name]
        return [member.name for member in self._members.values() if not member.patterns]

    def _not_found(self, package: PackageName, asked: list[str]) -> NotFoundError:
        if not asked:
            cause = (
                "the project declares no registry" if not self._members else "every registry is for other names alone"
            )
            hint, close = "declare one with 'adpm registry add NAME URL'", []
        else:
            cause = f"asked: {', '.join(str(self.registry(name)) for name in asked)}"
            close = difflib.get_close_matches(package, self._listed(asked), n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "check the spelling, or the registries"
        return NotFoundError(
            "package-not-found",
            f"no registry has the package {package}",
            cause=cause,
            hint=hint,
            package=package,
            near=tuple(close),
        )

    def _listed(self, asked: list[str]) -> list[str]:
        """Names of packages for a hint: what can't be listed adds nothing to it."""
        names: set[str] = set()
        for name in asked:
            try:
                names.update(self.registry(name).packages() or ())
            except AdpmError:
                continue
        return sorted(names)
