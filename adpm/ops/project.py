"""A project: the directory that holds ``adapter.yaml``, and beside it ``adapter.lock``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.manifest import BaseSource, Manifest, Wanted
from adpm.core.requirement import Requirement
from adpm.core.rules import Rules
from adpm.core.source import as_wanted
from adpm.core.workspace import ROOT, file_of
from adpm.errors import DocumentError, LockOutdatedError, NotFoundError
from adpm.formats.conflict import markers
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.manifest import read_manifest
from adpm.ops.root import find_root
from adpm.ops.workspace import context, enclosing, read_members, rebased, together
from adpm.store.durable import replace
from adpm.store.files import read_bounded

__all__ = ["Project", "differences", "meets"]


@dataclass(frozen=True, slots=True)
class Project:
    """A project's manifest as read from its directory (or as about to be written), and where its lock lies.

    ``root`` is that directory, the workspace's root where the project is in one; paths in ``manifest`` are relative to
    it. Of a workspace's root ``manifest`` is that of all members together, and ``texts`` holds the files of all by
    member; of another ``member`` it is its own, and ``whole`` is the workspace.
    """

    root: Path
    manifest: Manifest
    manifest_bytes: bytes
    member: str = ROOT
    whole: Project | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def find(cls, start: Path) -> Project:
        """The project of ``start`` or of the nearest directory above it."""
        root = find_root(str(start))
        if root is None:
            raise NotFoundError(
                "project-not-found",
                f"there is no {MANIFEST_FILE} in {start.absolute()} or above it",
                hint="make one with 'adpm init --base MODEL'",
            )
        return cls.read(Path(root), os.path.relpath(os.path.join(root, MANIFEST_FILE), start))

    @classmethod
    def read(cls, directory: Path, source: str = MANIFEST_FILE) -> Project:
        """The project in ``directory``, in its workspace if it is in one. Errors call its manifest ``source``."""
        above = enclosing(directory)
        root = above or directory
        data = read_bounded(root / MANIFEST_FILE, limits.MANIFEST_BYTES)
        manifest = read_manifest(data, source if above is None else MANIFEST_FILE)
        if manifest.workspace is None:
            return cls(root, manifest, data)
        whole = _workspace(root, read_members(root, manifest))
        if above is None:
            return whole
        return whole.seen_from(Path(os.path.abspath(directory)).relative_to(root).as_posix())

    def edited(self, data: bytes) -> Project:
        """This project with another manifest, not yet written."""
        if not self.together.texts:
            return Project(self.root, read_manifest(data, MANIFEST_FILE), data)
        whole = _workspace(self.root, {**self.together.texts, self.member: data})
        return whole if self.whole is None else whole.seen_from(self.member)

    def seen_from(self, member: str) -> Project:
        """Of this workspace, the project of a member."""
        root = read_manifest(self.texts[ROOT], MANIFEST_FILE)
        manifest = rebased(_read_member(root, member, self.texts[member]), member)
        return Project(self.root, manifest, self.texts[member], member, self)

    def ruled(self, rules: Rules) -> Project:
        """This project as if its manifest, or its workspace's root, said ``rules``; what is written there stays."""
        whole = None if self.whole is None else self.whole.ruled(rules)
        return replaced(self, manifest=replaced(self.manifest, rules=rules), whole=whole)

    @property
    def together(self) -> Project:
        """All that is locked together with this project: its workspace, or itself alone."""
        return self if self.whole is None else self.whole

    @property
    def context(self) -> Manifest | None:
        """What the manifest must be read with: None where it stands for itself."""
        return (
            None if self.whole is None else context(read_manifest(self.whole.texts[ROOT], MANIFEST_FILE), self.member)
        )

    @property
    def manifest_name(self) -> str:
        """The manifest's file, relative to the root."""
        return file_of(self.member)

    def text_of(self, member: str) -> str:
        """The manifest of a member as it is written; of a project in no workspace its own."""
        return self.texts.get(member, self.manifest_bytes).decode("utf-8")

    @property
    def manifest_path(self) -> Path:
        return self.root / self.manifest_name

    @property
    def lock_path(self) -> Path:
        return self.root / LOCK_FILE

    def lock(self, *, references: bool = True) -> Lock | None:
        """The lock as it lies on the disk, of the whole workspace; None where there is none.

        ``references``: see ``read_lock``.
        """
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

    def part(self, lock: Lock) -> Lock:
        """What of the lock is for this project: of a workspace's, a member's own part; at its root all."""
        if self.whole is None:
            return lock
        if self.member not in lock.members:
            raise _not_locked(self.member)
        return lock.part(self.member)

    def part_of(self, lock: Lock, members: Collection[str]) -> Lock:
        """What of a workspace's lock is for these members."""
        missing = [member for member in members if member not in lock.members]
        if missing:
            raise _not_locked(missing[0])
        return lock.of_members(members)

    def find_member(self, word: str) -> str:
        """The member that ``word`` names: by its path, by its package's name or by its directory's name.

        Raises ``NotFoundError`` (``member-unknown``) where that is none, or several.
        """
        paths = list(self.manifest.members)
        if word.rstrip("/") in paths:
            return word.rstrip("/")
        root = read_manifest(self.texts[ROOT], MANIFEST_FILE) if self.texts else self.manifest
        packages = {path: _read_member(root, path, self.texts[path]).package for path in paths}
        found = [path for path, package in packages.items() if package is not None and package.name == word]
        found = found or [path for path in paths if Path(path).name == word]
        if len(found) != 1:
            raise NotFoundError(
                "member-unknown",
                f"{word!r} is {'none' if not found else 'not the only one'} of this workspace's members",
                hint=f"its members are: {', '.join(found or paths) or 'none; it is a project alone'}",
            )
        return found[0]

    def need_lock(self) -> Lock:
        """This project's part of the lock; ``LockOutdatedError`` (``lock-missing``) where there is none."""
        lock = self.lock()
        if lock is None:
            raise LockOutdatedError("lock-missing", f"{self.root} has no {LOCK_FILE}", hint="write it with 'adpm lock'")
        return self.part(lock)

    def write(self, lock: Lock) -> bool:
        """Write manifest and lock, each atomically and only if its bytes change; whether any did."""
        manifest_changed = self.write_manifest()
        return self._write(self.lock_path, write_lock(lock)) or manifest_changed

    def write_manifest(self) -> bool:
        return self._write(self.manifest_path, self.manifest_bytes)

    def _write(self, path: Path, data: bytes) -> bool:
        if path.is_file() and path.read_bytes() == data:
            return False
        replace(path.parent, path, data)
        return True


def _not_locked(member: str) -> LockOutdatedError:
    return LockOutdatedError("lock-outdated", f"{LOCK_FILE} has no member {member}", hint="run 'adpm lock'")


def _workspace(root: Path, texts: Mapping[str, bytes]) -> Project:
    """The workspace in ``root`` of members with these manifests."""
    own = read_manifest(texts[ROOT], MANIFEST_FILE)
    members = {path: _read_member(own, path, data) for path, data in texts.items() if path != ROOT}
    if own.adapters or own.compose or own.package:
        members = {ROOT: own, **members}
    return Project(root, together(own, members), texts[ROOT], texts=texts)


def _read_member(root: Manifest, member: str, data: bytes) -> Manifest:
    return read_manifest(data, file_of(member), context(root, member))


def differences(manifest: Manifest, lock: Lock) -> Iterator[str]:
    """How the lock does not belong to the manifest, a sentence each; nothing where it does. Asks no network."""
    for path in sorted({*manifest.members} ^ {*lock.members}):
        yield f"{path} is {'not locked' if path in manifest.members else 'locked but no longer'} as a member"
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
