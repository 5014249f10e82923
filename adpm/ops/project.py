"""A project: the directory that holds ``adapter.yaml``, and beside it ``adapter.lock``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adpm import limits
from adpm.core.lock import Lock
from adpm.core.manifest import Manifest
from adpm.errors import LockOutdatedError, NotFoundError
from adpm.formats import lock as lock_format
from adpm.formats import manifest as manifest_format
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.manifest import read_manifest
from adpm.store.durable import replace

__all__ = ["Project", "differences", "read_bounded"]


def read_bounded(path: Path, limit: int) -> bytes:
    """The file's bytes, at most ``limit`` + 1 of them: enough for a reader to refuse what is too large."""
    with path.open("rb") as file:
        return file.read(limit + 1)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's directory and its manifest as read from there (or as about to be written)."""

    root: Path
    manifest: Manifest
    manifest_bytes: bytes

    @classmethod
    def find(cls, start: Path) -> Self:
        """The project of ``start`` or of the nearest directory above it."""
        start = start.absolute()
        for directory in (start, *start.parents):
            path = directory / manifest_format.FILE_NAME
            if path.is_file():
                return cls.read(directory)
        raise NotFoundError(
            "project-not-found",
            f"there is no {manifest_format.FILE_NAME} in {start} or above it",
            hint="make one with 'adpm init --base MODEL'",
        )

    @classmethod
    def read(cls, root: Path) -> Self:
        data = read_bounded(root / manifest_format.FILE_NAME, limits.MANIFEST_BYTES)
        return cls(root, read_manifest(data, manifest_format.FILE_NAME), data)

    def edited(self, data: bytes) -> Self:
        """This project with another manifest, not yet written."""
        return type(self)(self.root, read_manifest(data, manifest_format.FILE_NAME), data)

    @property
    def manifest_path(self) -> Path:
        return self.root / manifest_format.FILE_NAME

    @property
    def lock_path(self) -> Path:
        return self.root / lock_format.FILE_NAME

    def lock(self) -> Lock | None:
        """The lock as it lies on the disk; None where there is none."""
        try:
            data = read_bounded(self.lock_path, limits.LOCK_BYTES)
        except FileNotFoundError:
            return None
        return read_lock(data, lock_format.FILE_NAME)

    def need_lock(self) -> Lock:
        lock = self.lock()
        if lock is None:
            raise LockOutdatedError(
                "lock-missing", f"{self.root} has no {lock_format.FILE_NAME}", hint="write it with 'adpm lock'"
            )
        return lock

    def write(self, lock: Lock) -> bool:
        """Write manifest and lock, each atomically and only if its bytes change; whether any did."""
        changed = False
        for path, data in ((self.manifest_path, self.manifest_bytes), (self.lock_path, write_lock(lock))):
            if not path.is_file() or path.read_bytes() != data:
                replace(self.root, path, data)
                changed = True
        return changed


def differences(manifest: Manifest, lock: Lock) -> Iterator[str]:
    """How the lock does not belong to the manifest, a sentence each; nothing where it does. Asks no network."""
    base, locked = manifest.base, lock.base
    for part in ("model", "revision"):
        wanted, has = getattr(base, part, None), getattr(locked, part, None)
        if wanted != has:
            yield f"the base's {part} is {wanted or 'not named'}; the lock has {has or 'none'}"
    wanted_aliases = {wanted.alias: wanted for wanted in manifest.adapters}
    for alias, wanted_adapter in wanted_aliases.items():
        adapter = lock.adapters.get(alias)
        if adapter is None:
            yield f"{alias} is not locked"
        elif str(adapter.requirement) != str(wanted_adapter.requirement):
            yield f"{alias} asks for {wanted_adapter.requirement}; the lock has {adapter.requirement}"
        elif adapter.registry != wanted_adapter.registry:
            yield f"{alias} asks registry {wanted_adapter.registry or 'any'}; the lock has {adapter.registry or 'any'}"
    for alias in lock.adapters:
        if alias not in wanted_aliases:
            yield f"{alias} is locked but no longer asked for"
    if dict(manifest.compose) != dict(lock.compose):
        yield "the compositions differ"
    declared = {registry.name for registry in manifest.registries}
    for registry_name in sorted({package.registry for package in lock.packages.values()} - declared):
        yield f"the lock uses registry {registry_name}, which the manifest does not declare"
