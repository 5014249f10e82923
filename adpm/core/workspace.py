"""Workspaces: several projects, the *members*, in directories under one root, where the one lock of them all lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from adpm.core.files import MANIFEST_FILE
from adpm.core.names import Alias
from adpm.errors import UsageError

__all__ = ["ROOT", "Workspace", "file_of", "member_path", "member_pattern", "qualified", "unqualified"]

ROOT: Final = "."  # the root as a member, and a project that is in no workspace
_PART: Final = re.compile(r"[^/\\:\x00-\x1f\x7f*?\[\]]{1,255}\Z")
_PATTERN_PART: Final = re.compile(r"[^/\\:\x00-\x1f\x7f\[\]]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Workspace:
    """``workspace:`` in a root's manifest: patterns of the directories that are members, and of those that are not."""

    members: tuple[str, ...]
    exclude: tuple[str, ...] = ()


def member_path(text: str) -> str:
    """A member's directory as a lock names it, relative to the root; ``ROOT`` is the root itself."""
    if text == ROOT or _is_relative(text, _PART):
        return text
    raise _invalid(text, "is not the path of a directory below the workspace's root, such as 'models/en'")


def member_pattern(text: str) -> str:
    """A path below the root, in whose parts ``*`` stands for any characters and ``?`` for one."""
    found = text.removeprefix("./").rstrip("/")
    if _is_relative(found, _PATTERN_PART) and "**" not in found:
        return found
    raise _invalid(text, "is not a pattern of directories below the workspace's root, such as 'models/*'")


def _is_relative(text: str, part: re.Pattern[str]) -> bool:
    parts = text.split("/")
    return all(part.match(name) and name not in {".", ".."} for name in parts)


def _invalid(text: str, why: str) -> UsageError:
    return UsageError("member-invalid", f"{text[:80]!r} {why}", hint="members lie below the directory of the root")


def qualified(member: str, alias: str) -> Alias:
    """What a workspace calls an alias of ``member``: ``models/en:sst``; one of the root keeps its name."""
    return Alias(alias if member == ROOT else f"{member}:{alias}")


def unqualified(alias: str) -> tuple[str, Alias]:
    """The member and its own alias."""
    member, _, own = alias.rpartition(":")
    return member or ROOT, Alias(own)


def file_of(member: str) -> str:
    """The manifest of ``member``, relative to the root."""
    return str(PurePosixPath(member) / MANIFEST_FILE)
