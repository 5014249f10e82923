"""Direct sources: an adapter that is taken from one place instead of being chosen from registries.

    source     = PATH                                       ./wip   ../my-adapter   /srv/adapters/x
               | "git+" URL ["#" REVISION]                  git+https://example.org/team/x.git#v1.2
               | "hf:" OWNER "/" NAME ["@" REVISION]        hf:AdapterHub/bert-base-uncased-pf-squad@main

A revision is a tag, a branch or a full commit; a lock holds the commit that it stood for. Errors: ``source-invalid``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from adpm.errors import UsageError

__all__ = ["GitSource", "HubSource", "PathSource", "Source", "as_wanted", "is_source", "parse_source"]

_REVISION: Final = re.compile(r"(?!.*(?:\.\.|//|@\{))[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}\Z")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_SUBDIRECTORY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*\Z")
_REPOSITORY: Final = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}\Z")
_PRINTABLE: Final = re.compile(r"[!-~]{1,1000}\Z")
_GIT_SCHEMES: Final = ("https", "http", "ssh", "file")
_PATH_STARTS: Final = ("./", "../", "/")
_MARKS: Final = ("git+", "hf:", *_PATH_STARTS)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A directory, relative to the manifest, that is read as it is now."""

    path: str

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path:
            raise _invalid(self.path, "a path can't be empty")

    def __str__(self) -> str:
        return self.path if self.path.startswith(_PATH_STARTS) else f"./{self.path}"


@dataclass(frozen=True, slots=True)
class GitSource:
    """A directory of a git repository at a revision (None: its default branch). ``commit``: what that stood for."""

    url: str
    revision: str | None = None
    subdirectory: str | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        _check_git_url(self.url)
        _check_revision(self.revision, self.url)
        _check_commit(self.commit, self.url)
        if self.subdirectory is not None and not _SUBDIRECTORY.match(self.subdirectory):
            raise _invalid(self.url, f"{self.subdirectory[:80]!r} is not a directory inside a repository")

    def __str__(self) -> str:
        inside = f" (directory {self.subdirectory})" if self.subdirectory else ""
        return f"git+{self.url}" + (f"#{self.revision}" if self.revision else "") + inside


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model repository of the Hugging Face Hub at a revision (None: ``main``). ``commit``: what that stood for."""

    repository: str
    revision: str | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        if not _REPOSITORY.match(self.repository):
            raise _invalid(f"hf:{self.repository}", "a repository of the Hub is OWNER/NAME")
        _check_revision(self.revision, self.repository)
        _check_commit(self.commit, self.repository)

    def __str__(self) -> str:
        return f"hf:{self.repository}" + (f"@{self.revision}" if self.revision else "")


Source = PathSource | GitSource | HubSource


def is_source(text: str) -> bool:
    """Whether ``text`` is meant as a direct source, by how it begins: no package name begins so."""
    return text.strip().startswith(_MARKS)


def parse_source(text: str) -> Source:
    """Read the grammar above."""
    text = text.strip()
    if text.startswith("git+"):
        url, mark, revision = text[4:].partition("#")
        return GitSource(url, revision if mark else None)
    if text.startswith("hf:"):
        repository, mark, revision = text[3:].partition("@")
        return HubSource(repository, revision if mark else None)
    if text.startswith(_PATH_STARTS):
        return PathSource(text)
    raise _invalid(text, "it is neither a path nor of a form that begins with 'git+' or 'hf:'")


def as_wanted(source: Source) -> Source:
    """The source as a manifest may say it: without the commit that a lock adds."""
    return source if isinstance(source, PathSource) else replace(source, commit=None)


def _check_git_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise _invalid(f"git+{url}", "that is not a URL") from None
    if parts.scheme not in _GIT_SCHEMES or not _PRINTABLE.match(url):
        raise _invalid(f"git+{url}", f"git addresses are URLs of {', '.join(_GIT_SCHEMES)}")
    if parts.scheme != "file" and (not parts.hostname or parts.hostname.startswith("-")):
        raise _invalid(f"git+{url}", "it names no host")
    if parts.password is not None:
        shown = url.replace(f":{parts.password}@", ":***@")
        raise _invalid(f"git+{shown}", "it holds a password; keep that in git's credential helper")
    if parts.query or parts.fragment:
        raise _invalid(f"git+{url}", "it has a query or a fragment; give the revision under 'revision'")


def _check_revision(revision: str | None, where: str) -> None:
    if revision is not None and not _REVISION.match(revision):
        raise _invalid(where, f"{revision[:80]!r} is not a revision: a tag, a branch or a full commit")


def _check_commit(commit: str | None, where: str) -> None:
    if commit is not None and not _COMMIT.match(commit):
        raise _invalid(where, f"{commit[:80]!r} is not a commit")


def _invalid(text: str, cause: str) -> UsageError:
    return UsageError(
        "source-invalid",
        f"{text[:120]!r} is not a place to take an adapter from",
        cause=cause,
        hint="write ../directory, git+https://example.org/x.git#v1.2 or hf:OWNER/NAME@REVISION",
    )
