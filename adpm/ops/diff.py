"""``adpm diff``: what differs between two locks, and how many bytes lie between them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.events import Changed
from adpm.core.files import LOCK_FILE
from adpm.core.lock import Lock, LockedAdapter, LockedMember, LockedPackage
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.core.rules import Rules
from adpm.errors import NotFoundError
from adpm.formats.lock import read_lock
from adpm.ops.changes import changes
from adpm.store.files import read_bounded

__all__ = ["Declared", "Difference", "FileChange", "PackageChange", "diff", "lock_at"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of a package; None where the old or the new release has none of this path."""

    path: str
    before: Blob | None
    after: Blob | None


@dataclass(frozen=True, slots=True)
class PackageChange:
    """``change`` as elsewhere; where they are from and the releases' digests; the files that differ, by path."""

    change: Changed
    origins: tuple[str | None, str | None]
    releases: tuple[Digest | None, Digest | None]
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """One part of the lock besides its packages, such as ``adapters.sst``, in words; None where it is not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """``fetched`` and ``dropped``: bytes of blobs that only the new, only the old lock names, each blob once."""

    declared: tuple[Declared, ...]
    packages: tuple[PackageChange, ...]
    fetched: int
    dropped: int


def lock_at(place: str, directory: Path) -> Lock:
    """The lock at ``place``: a file, a directory that holds one, or a revision of git (``HEAD``, ``v1.2``, a commit).

    Paths are relative to ``directory``; what is there is a path, and only else a revision. ``directory`` decides
    which lock of the repository is meant. Raises ``NotFoundError`` (``lock-not-found``).
    """
    path = directory / place
    if path.is_dir():
        path /= LOCK_FILE
    if path.is_file():
        return read_lock(read_bounded(path, limits.LOCK_BYTES), str(path))
    commit = _git(directory, place, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{place}^{{commit}}")
    name = commit.decode("ascii", "replace").strip()
    data = _git(directory, place, "cat-file", "blob", f"{name}:./{LOCK_FILE}")
    return read_lock(data, f"{LOCK_FILE} of {place}")


def _git(directory: Path, place: str, *arguments: str) -> bytes:
    """What git prints. The user's word stands behind --end-of-options; what is passed on is the commit's hash."""
    why = f"git finds no {LOCK_FILE} at this revision" if arguments[0] == "cat-file" else "git knows no such revision"
    try:
        with subprocess.Popen(  # noqa: S603 - see above
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            data = process.stdout.read(limits.LOCK_BYTES + 1)
            if len(data) > limits.LOCK_BYTES:
                process.kill()
                return data  # which the reader refuses
        if process.returncode == 0:
            return data
    except FileNotFoundError:
        why = "git is not installed"
    except ValueError:  # a NUL
        why = "no revision is called so"
    raise NotFoundError(
        "lock-not-found",
        f"there is no {LOCK_FILE} at {place!r}",
        cause=f"it is no file, and {why}",
        hint="name a file, a project's directory, or a revision such as HEAD",
    )


def diff(before: Lock, after: Lock) -> Difference:
    """What ``after`` has that ``before`` has not, and the other way round."""
    old, new = _blobs(before), _blobs(after)
    return Difference(
        declared=tuple(_declared(before, after)),
        packages=tuple(_package(change, before, after) for change in changes(before, after)),
        fetched=sum(size for digest, size in new.items() if digest not in old),
        dropped=sum(size for digest, size in old.items() if digest not in new),
    )


def _blobs(lock: Lock) -> dict[Digest, int]:
    return {blob.digest: blob.size for package in lock.packages.values() for _, blob in package.blobs()}


def _package(change: Changed, before: Lock, after: Lock) -> PackageChange:
    was, now = before.packages.get(change.package), after.packages.get(change.package)
    return PackageChange(
        change,
        origins=(was.origin if was else None, now.origin if now else None),
        releases=(was.manifest.digest if was else None, now.manifest.digest if now else None),
        files=tuple(_files(was, now)),
    )


def _files(was: LockedPackage | None, now: LockedPackage | None) -> Iterator[FileChange]:
    old, new = ({file.path: file.blob for file in package.files} if package else {} for package in (was, now))
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield FileChange(path, old.get(path), new.get(path))


def _declared(before: Lock, after: Lock) -> Iterator[Declared]:
    for name in (field.name for field in fields(Lock) if field.name != "packages"):
        was, now = getattr(before, name), getattr(after, name)
        if isinstance(now, Mapping) and isinstance(was, Mapping):
            for key in sorted({*was, *now}):
                if was.get(key) != now.get(key):
                    yield Declared(f"{name}.{key}", _words(was.get(key)), _words(now.get(key)))
        elif was != now:
            old, new = _words(was), _words(now)
            yield Declared(name, old, f"{new}, but {_how(was, now)}" if old is not None and old == new else new)


def _words(value: Any) -> str | None:
    if isinstance(value, LockedAdapter):
        places = {"from": value.registry, "for base": value.base, "in slot": value.slot, "in group": value.group}
        return " ".join([str(value.requirement), *(f"{word} {place}" for word, place in places.items() if place)])
    if isinstance(value, LockedMember):
        return "a member" if value.base is None else f"a member on base {value.base}"
    if isinstance(value, BaseIdentity):
        return (value.model or "a base without a name") + (f" at {value.revision}" if value.revision else "")
    if isinstance(value, Rules):
        return _rules_words(value)
    return None if value is None else str(value)


def _rules_words(rules: Rules) -> str | None:
    """The rules as far as they are others than where none are given."""
    parts = {
        "overrides": ", ".join(str(override.requirement) for override in rules.overrides),
        "exclude": ", ".join(rules.exclude),
        "resolution": "" if rules.resolution == Rules().resolution else rules.resolution,
        "exclude-newer": rules.exclude_newer,
        "exclude-undated": "" if rules.exclude_undated else "false",
        "licenses": None if rules.licenses is None else ", ".join(rules.licenses) or "none",
    }
    return "; ".join(f"{name}: {text}" for name, text in parts.items() if text) or None


def _how(was: Any, now: Any) -> str:
    """Two bases of one name that are not the same."""
    if isinstance(was, BaseIdentity) and isinstance(now, BaseIdentity):
        return was.misfit(now) or "with more or less known of it"
    return "other than before"
