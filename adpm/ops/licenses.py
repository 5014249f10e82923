"""``adpm licenses``: what the locked adapters, their bases and their compositions are licensed under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adpm.core.composition import leaves
from adpm.core.licenses import allowed
from adpm.core.lock import LockedPackage
from adpm.core.manifest import BaseSource
from adpm.core.workspace import qualified
from adpm.errors import UsageError
from adpm.ops.cards import cards
from adpm.ops.project import Project
from adpm.registry.chain import Chain
from adpm.store.store import Store

__all__ = ["Licensed", "Licenses", "check_bases", "licenses"]


@dataclass(frozen=True, slots=True)
class Licensed:
    """A name that a composition may use, and its license; None: its card states none."""

    name: str
    package: LockedPackage
    license: str | None


@dataclass(frozen=True, slots=True)
class Licenses:
    """``bases``: by name (the only one's is None), as the manifest states them.

    ``compositions``: by name, whatever counts for it: the licenses of the base and of the adapters, each once, sorted;
    None among them where one of these states none.
    """

    bases: Mapping[str | None, str | None]
    adapters: tuple[Licensed, ...]
    compositions: Mapping[str, tuple[str | None, ...]]


def licenses(project: Project, store: Store, chain: Callable[[], Chain] | None) -> Licenses:
    """The licenses of everything that is locked; cards that the store lacks are fetched (see ``cards``)."""
    lock = project.need_lock()
    bases = {name: base.license for name, base in _bases(project).items()}
    found = cards(lock.packages.values(), store, chain)
    compositions: dict[str, tuple[str | None, ...]] = {}
    for member, part in lock.parts():
        for name, composition in part.compose.items():
            for base in part.bases_of(composition):
                packages = dict(part.names(base))
                stated = {found[packages[leaf].key].license for leaf in leaves(composition)}
                stated |= {bases[base]} if base in bases else set()
                compositions[qualified(member, name)] = tuple(sorted(stated, key=lambda one: (one is None, one or "")))
    named = (Licensed(name, package, found[package.key].license) for name, package in lock.names())
    return Licenses(bases, tuple(named), compositions)


def check_bases(project: Project) -> None:
    """Raise ``UsageError`` (``license-refused``) for a base with a license that the project does not allow."""
    allow = project.manifest.rules.licenses
    for name, base in _bases(project).items():
        if allow is not None and base.license is not None and not allowed(base.license, allow):
            raise UsageError(
                "license-refused",
                f"the base {name or base.model or base.path} is licensed under {base.license}, which is not allowed",
                cause=f"licenses: {{allow: [{', '.join(allow)}]}}",
                hint=f"add {base.license!r} to the licenses that adapter.yaml allows, or take another base",
            )


def _bases(project: Project) -> dict[str | None, BaseSource]:
    manifest = project.manifest
    if manifest.base is not None:
        return {None: manifest.base}
    return {name: manifest.bases[name] for name in manifest.bases}
