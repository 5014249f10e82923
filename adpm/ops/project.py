"""A project: the directory that holds ``adapter.yaml``, and beside it ``adapter.lock``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Self

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.manifest import BaseSource, Manifest, Wanted
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import as_wanted
from adpm.errors import DocumentError, LockOutdatedError, NotFoundError
from adpm.formats.conflict import markers
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.manifest import read_manifest
from adpm.ops.root import find_root
from adpm.store.durable import replace
from adpm.store.files import read_bounded

__all__ = ["Project", "differences", "meets"]


@dataclass(frozen=True, slots=True)
class Project:
    """A project's directory and its manifest as read from there (or as about to be written)."""

    root: Path
    manifest: Manifest
    manifest_bytes: bytes

    @classmethod
    def find(cls, start: Path) -> Self:
        """The project of ``start`` or of the nearest directory above it."""
        root = find_root(str(start))
        if root is None:
            raise NotFoundError(
                "project-not-found",
                f"there is no {MANIFEST_FILE} in {start.absolute()} or above it",
                hint="make one with 'adpm init --base MODEL'",
            )
        return cls.read(Path(root))

    @classmethod
    def read(cls, root: Path) -> Self:
        data = read_bounded(root / MANIFEST_FILE, limits.MANIFEST_BYTES)
        return cls(root, read_manifest(data, MANIFEST_FILE), data)

    def edited(self, data: bytes) -> Self:
        """This project with another manifest, not yet written."""
        return type(self)(self.root, read_manifest(data, MANIFEST_FILE), data)

    def ruled(self, rules: Rules) -> Self:
        """This project as if its manifest said ``rules``; what is written there stays."""
        return replaced(self, manifest=replaced(self.manifest, rules=rules))

    @property
    def manifest_path(self) -> Path:
        return self.root / MANIFEST_FILE

    @property
    def lock_path(self) -> Path:
        return self.root / LOCK_FILE

    def lock(self, *, references: bool = True) -> Lock | None:
        """The lock as it lies on the disk; None where there is none. ``references``: see ``read_lock``."""
        data = self.lock_bytes()
        if data is None:
            return None
        try:
            return read_lock(data, LOCK_FILE, references=references)
        except DocumentError as error:
            if error.code == "lock-invalid" and not markers(data):
                error.hint = f"restore {LOCK_FILE} from version control, or remove it and run 'adpm lock'"
            raise

    def lock_bytes(self) -> bytes | None:
        try:
            return read_bounded(self.lock_path, limits.LOCK_BYTES)
        except FileNotFoundError:
            return None

    def need_lock(self) -> Lock:
        lock = self.lock()
        if lock is None:
            raise LockOutdatedError("lock-missing", f"{self.root} has no {LOCK_FILE}", hint="write it with 'adpm lock'")
        return lock

    def write(self, lock: Lock) -> bool:
        """Write manifest and lock, each atomically and only if its bytes change; whether any did."""
        manifest_changed = self.write_manifest()
        return self._write(self.lock_path, write_lock(lock)) or manifest_changed

    def write_manifest(self) -> bool:
        return self._write(self.manifest_path, self.manifest_bytes)

    def _write(self, path: Path, data: bytes) -> bool:
        if path.is_file() and path.read_bytes() == data:
            return False
        replace(self.root, path, data)
        return True


def differences(manifest: Manifest, lock: Lock) -> Iterator[str]:
    """How the lock does not belong to the manifest, a sentence each; nothing where it does. Asks no network."""
    for name in sorted({*manifest.bases, *lock.bases}):
        if name not in lock.bases or name not in manifest.bases:
            yield f"the base {name} is {'not locked' if name in manifest.bases else 'locked but no longer declared'}"
        else:
            yield from _base_differences(f"the base {name}", manifest.bases[name], lock.bases[name])
    yield from _base_differences("the base", manifest.base, lock.base)
    yield from _adapter_differences(manifest, lock)
    if dict(manifest.compose) != dict(lock.compose):
        yield "the compositions differ"
    yield from manifest.rules.differences(lock.rules)
    yield from _loose_ends(lock)
    declared = {registry.name for registry in manifest.registries}
    used = {package.registry for package in lock.packages.values() if package.registry is not None}
    for registry_name in sorted(used - declared):
        yield f"the lock uses registry {registry_name}, which the manifest does not declare"


def _adapter_differences(manifest: Manifest, lock: Lock) -> Iterator[str]:
    wanted_aliases = {wanted.alias: wanted for wanted in manifest.adapters}
    for alias, wanted_adapter in wanted_aliases.items():
        adapter = lock.adapters.get(alias)
        if adapter is None:
            yield f"{alias} is not locked"
        elif str(wanted_adapter.requirement) != (asked := _asked(lock, adapter)):
            yield f"{alias} asks for {wanted_adapter.requirement}; the lock has {asked}"
        elif _place(adapter) != _place(wanted_adapter):
            yield f"{alias} is for {_place(wanted_adapter)}; in the lock it is for {_place(adapter)}"
        elif _scores(adapter) != _scores(wanted_adapter):
            yield f"{alias} is chosen {_scores(wanted_adapter)}; the lock has it {_scores(adapter)}"
        elif adapter.registry != wanted_adapter.registry:
            yield f"{alias} asks registry {wanted_adapter.registry or 'any'}; the lock has {adapter.registry or 'any'}"
    for alias in lock.adapters:
        if alias not in wanted_aliases:
            yield f"{alias} is locked but no longer asked for"


def _base_differences(what: str, wanted: BaseSource | None, locked: BaseIdentity | None) -> Iterator[str]:
    for part in ("model", "revision"):
        wants, has = getattr(wanted, part, None), getattr(locked, part, None)
        if wants != has:
            yield f"{what}'s {part} is {wants or 'not named'}; the lock has {has or 'none'}"


def _scores(entry: Wanted | LockedAdapter) -> str:
    told = [*(f"where {floor}" for floor in entry.where), *([f"by {entry.prefer}"] if entry.prefer else [])]
    return " and ".join(told) or "without regard to scores"


def _place(entry: Wanted | LockedAdapter) -> str:
    parts = {"slot": entry.slot, "group": entry.group}
    told = [f"{name} {value}" for name, value in parts.items() if value is not None]
    return ", ".join([f"base {entry.base}" if entry.base else "the base", *told])


def _asked(lock: Lock, adapter: LockedAdapter) -> str:
    """What the manifest said when the adapter was locked."""
    source = lock.packages[adapter.key].source
    return str(adapter.requirement if source is None else as_wanted(source))


def meets(requirement: Requirement, package: LockedPackage) -> bool:
    """Whether the locked release is one that the requirement admits; of a channel that is what was locked for it."""
    if requirement.channel is not None:
        return True
    if requirement.digest is not None:
        return requirement.digest == package.manifest.digest
    return requirement.specifiers.contains(package.version, prereleases=True)


def _loose_ends(lock: Lock) -> Iterator[str]:
    """What git's merge of two locks that were right may leave: needs that are not met, packages that none needs."""
    needs = [(str(alias), a.requirement, lock.packages[a.key]) for alias, a in lock.adapters.items()]
    reached: set[str] = set()
    for who, requirement, package in needs:  # grows while it is walked
        if not meets(requirement, package):
            yield f"{who} requires {requirement}; the lock has {package.version}"
        if package.key not in reached:
            reached.add(package.key)
            name = f"{package.name} {package.version}"
            needs += [(name, inner, lock.required(package, inner)) for inner in package.requires]
    for key in lock.packages:
        if key not in reached:
            yield f"{key} is locked, but nothing requires it"
