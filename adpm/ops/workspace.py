"""Workspaces on the disk: which directories are members, which workspace a directory is in, what is locked together."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from adpm import limits
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.core.manifest import BaseSource, Manifest, Wanted
from adpm.core.source import PathSource
from adpm.core.workspace import ROOT, Workspace, file_of, qualified
from adpm.errors import UsageError
from adpm.formats.manifest import read_manifest
from adpm.store.files import read_bounded

__all__ = ["context", "enclosing", "read_members", "rebased", "together"]


def enclosing(directory: Path) -> Path | None:
    """The root of the workspace of which ``directory`` is a member; None where it stands alone.

    The nearest workspace above decides. Raises ``DocumentError`` where a manifest above that seems to be the root of
    one can't be read.
    """
    start = Path(os.path.abspath(directory))
    for parent in start.parents:
        path = parent / MANIFEST_FILE
        if path.is_file() and b"workspace" in (data := read_bounded(path, limits.MANIFEST_BYTES)):
            workspace = read_manifest(data, str(path)).workspace
            if workspace is not None:
                return parent if _is_member(start.relative_to(parent).as_posix(), workspace) else None
    return None


def context(root: Manifest, member: str) -> Manifest | None:
    """What the manifest in ``member`` is read with: the root's, as seen from there. None for the root itself."""
    return None if member == ROOT else _seen(root, posixpath.relpath(ROOT, member))


def read_members(root: Path, manifest: Manifest) -> dict[str, bytes]:
    """The manifests of all members by path, and the root's own.

    Raises ``UsageError`` (``workspace-invalid``) for a member that is not there, lies inside another, or has a lock of
    its own.
    """
    assert manifest.workspace is not None  # noqa: S101 - the caller looked
    found = sorted({path for pattern in manifest.workspace.members for path in _matching(root, pattern)})
    members = [path for path in found if _is_member(path, manifest.workspace)]
    if len(members) > limits.MEMBERS:
        raise _invalid(f"it has {len(members)} members, at most {limits.MEMBERS} are allowed", "split it")
    for path in members:
        for parent in Path(path).parents:
            if parent.as_posix() in members:
                raise _invalid(
                    f"the member {path} lies inside the member {parent.as_posix()}",
                    "name one of them under workspace.exclude, or move it",
                )
        if (root / path / LOCK_FILE).exists():
            raise _invalid(
                f"the member {path} has an {LOCK_FILE} of its own",
                f"remove {path}/{LOCK_FILE}: all members share the one beside the root's {MANIFEST_FILE}",
            )
    return {path: read_bounded(root / path / MANIFEST_FILE, limits.MANIFEST_BYTES) for path in (ROOT, *members)}


def _is_member(path: str, workspace: Workspace) -> bool:
    def named(patterns: tuple[str, ...]) -> bool:
        return any(_matches(path, pattern) for pattern in patterns)

    return named(workspace.members) and not named(workspace.exclude)


def _matches(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(_part_matches, parts, patterns))


def _part_matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def _matching(root: Path, pattern: str) -> Iterator[str]:
    """The directories with a manifest that a pattern means; one without wildcards must be there."""
    if not re.search(r"[*?]", pattern):
        if not (root / pattern / MANIFEST_FILE).is_file():
            raise _invalid(
                f"the member {pattern} has no {MANIFEST_FILE}",
                f"write one with 'adpm -C {pattern} init --base MODEL', or correct workspace.members",
            )
        yield pattern
        return
    found = [""]
    for part in pattern.split("/"):
        found = [posixpath.join(path, name) for path in found for name in _directories(root / path, part)]
    yield from (path for path in found if (root / path / MANIFEST_FILE).is_file())


def _directories(directory: Path, pattern: str) -> list[str]:
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if _part_matches(entry.name, pattern) and entry.is_dir()]


def together(root: Manifest, members: Mapping[str, Manifest]) -> Manifest:
    """One manifest of what all members want, by qualified aliases, with paths as seen from the root.

    Bases that are declared alike are one. Those under ``bases`` keep their names, others are called after their model.
    """
    seen = {path: rebased(manifest, path) for path, manifest in members.items()}
    named, names = _bases(seen)
    without = [path for path, manifest in seen.items() if manifest.adapters and not (manifest.base or manifest.bases)]
    if named and without:
        raise _invalid(
            f"{file_of(without[0])} declares no base, but other members do",
            "declare one there, or in the root for all members that declare none",
        )
    adapters: list[Wanted] = []
    for path, manifest in seen.items():
        for wanted in manifest.adapters:
            alias = qualified(path, wanted.alias)
            adapters.append(replace(wanted, alias=alias, base=wanted.base or names.get(path)))
    return Manifest(
        registries=root.registries,
        adapters=tuple(adapters),
        compose={qualified(path, n): c for path, manifest in seen.items() for n, c in manifest.compose.items()},
        rules=root.rules,
        bases=named,
        workspace=root.workspace,
        members={path: names.get(path) for path in seen},
    )


def _bases(members: Mapping[str, Manifest]) -> tuple[dict[str, BaseSource], dict[str, str]]:
    """All bases by name, and the name of each member's only base by the member's path."""
    named: dict[str, BaseSource] = {}
    declared: dict[str, str] = {}
    for path, manifest in members.items():
        for name, base in manifest.bases.items():
            if named.setdefault(name, base) != base:
                raise _invalid(
                    f"{file_of(declared[name])} and {file_of(path)} declare different bases named {name!r}",
                    "give one of them another name",
                )
            declared.setdefault(name, path)
    names = {base: name for name, base in sorted(named.items(), reverse=True)}
    single = {manifest.base for manifest in members.values() if manifest.base is not None}
    for only in sorted(single - {*names}, key=lambda base: (base.model or "", base.revision or "", base.path or "")):
        names[only] = _free(_slug(only), named)
        named[names[only]] = only
    return named, {path: names[m.base] for path, m in members.items() if m.base is not None}


def _slug(base: BaseSource) -> str:
    last = re.sub(r"[^A-Za-z0-9_-]", "-", posixpath.basename((base.model or base.path or "").rstrip("/")))[:58]
    return last if last[:1].isalpha() else f"base{last}"


def _free(name: str, taken: Mapping[str, BaseSource]) -> str:
    return next(free for free in (name, *(f"{name}-{i}" for i in range(2, limits.MEMBERS + 2))) if free not in taken)


def rebased(manifest: Manifest, member: str) -> Manifest:
    """A member's manifest with its paths as seen from the root."""
    adapters = tuple(
        replace(w, requirement=PathSource(_joined(w.requirement.path, member)))
        if isinstance(w.requirement, PathSource)
        else w
        for w in manifest.adapters
    )
    return replace(_seen(manifest, member), adapters=adapters)


def _seen(manifest: Manifest, place: str) -> Manifest:
    """The manifest with its bases' paths as seen from where ``place`` is its directory."""
    return replace(
        manifest,
        base=None if manifest.base is None else _seen_base(manifest.base, place),
        bases={name: _seen_base(base, place) for name, base in manifest.bases.items()},
    )


def _seen_base(base: BaseSource, place: str) -> BaseSource:
    return base if base.path is None or base.path.startswith("~") else replace(base, path=_joined(base.path, place))


def _joined(path: str, place: str) -> str:
    return posixpath.normpath(posixpath.join(place, path))


def _invalid(what: str, hint: str) -> UsageError:
    return UsageError("workspace-invalid", f"this workspace can't be locked: {what}", hint=hint)
