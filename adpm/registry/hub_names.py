"""Which repository of the Hub holds which package, and back. ``specs/hub.md`` is the normative text."""

from __future__ import annotations

import re
from typing import Final

from adpm.core.names import PackageName
from adpm.errors import UsageError

__all__ = ["REPOSITORY", "is_repository", "package_of", "repository_of"]

REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_NAME_CHARACTERS: Final = 96  # what the Hub allows for owner/name
_BETWEEN: Final = "__"  # which no part of a package's name contains


def is_repository(text: str) -> bool:
    """Whether the Hub could have a repository of this id: ``owner/name``, no ``--`` and ``..``, no end in ``.git``."""
    return (
        REPOSITORY.match(text) is not None
        and len(text) <= _NAME_CHARACTERS
        and "--" not in text
        and ".." not in text
        and not text.endswith((".git", ".", "-"))
    )


def repository_of(name: PackageName, owner: str | None) -> str:
    """The repository's id. Without an ``owner`` it is the name's first part.

    Raises ``UsageError`` (``name-unhubable``) where the Hub has no such ids.
    """
    parts = name.split("/")
    if owner is None:
        owner, parts = parts[0], parts[1:]
    id_ = f"{owner}/{_BETWEEN.join(parts)}"
    if not is_repository(id_):
        raise UsageError(
            "name-unhubable",
            f"the Hub can't hold the package {name}",
            cause=f"it would be the repository {id_!r}: ids there are owner/name, without '--' and '..', of at most "
            f"{_NAME_CHARACTERS} characters",
            hint="with the url hf:// a name begins with its owner; hf://OWNER takes every name that is not too long",
        )
    return id_


def package_of(repository: str, owner: str | None) -> PackageName | None:
    """The package that ``repository`` is; None where its name can't be a package's."""
    of, _, rest = repository.partition("/")
    text = rest.replace(_BETWEEN, "/")
    try:
        return PackageName.parse(text if owner is not None else f"{of}/{text}")
    except UsageError:
        return None
