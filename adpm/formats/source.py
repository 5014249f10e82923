"""Direct sources in documents: how a manifest writes them, and how a lock does."""

from __future__ import annotations

import dataclasses

from adpm.core.source import GitSource, HubSource, PathSource, Source, parse_source
from adpm.formats.reader import Fields, Node, text

__all__ = ["lock_source", "lock_source_value", "wanted_source", "wanted_source_value"]


def wanted_source(node: Node, fields: Fields, kind: str) -> Source:
    """A manifest's ``{path: ...}``, ``{git: ..., revision:, subdirectory:}`` or ``{package: hf:..., revision:}``.

    ``kind`` is the key that says which: ``path``, ``git`` or ``package``.
    """
    place = fields.get(kind, text)
    revision = None if kind == "path" else fields.get("revision", text)
    subdirectory = fields.get("subdirectory", text) if kind == "git" else None
    if place is None:
        node.fail(f"{kind!r} names no place")
    if kind == "path":
        return PathSource(place)
    if kind == "git":
        return GitSource(place, revision, subdirectory)
    source = parse_source(place)
    if isinstance(source, PathSource):
        node.fail("write a directory as {path: ...}")
    if revision is not None and source.revision is not None:
        node.fail(f"names two revisions, {source.revision!r} and {revision!r}")
    return dataclasses.replace(source, revision=revision or source.revision)


def wanted_source_value(source: Source) -> str | dict[str, str]:
    """What a manifest says of ``source``: a text where that says it all."""
    if isinstance(source, PathSource):
        return {"path": source.path}
    if isinstance(source, GitSource) and source.subdirectory is not None:
        value = {"git": source.url, "subdirectory": source.subdirectory}
        return value if source.revision is None else {**value, "revision": source.revision}
    return str(source)


def lock_source_value(source: Source) -> dict[str, str]:
    """What a lock says of ``source``."""
    parts: dict[str, str | None]
    if isinstance(source, PathSource):
        parts = {"path": source.path}
    elif isinstance(source, GitSource):
        parts = {"git": source.url, "subdirectory": source.subdirectory}
    else:
        parts = {"hub": source.repository}
    if not isinstance(source, PathSource):
        parts |= {"revision": source.revision, "commit": source.commit}
    return {key: value for key, value in parts.items() if value is not None}


def lock_source(node: Node) -> Source:
    """Read ``lock_source_value``; what is not a path must name its commit."""
    fields = node.fields()
    kinds = [kind for kind in ("path", "git", "hub") if kind in fields]
    if len(kinds) != 1:
        node.fail("must have one of 'path', 'git' and 'hub'")
    place = fields.get(kinds[0], text)
    commit, revision, subdirectory = None, None, None
    if kinds != ["path"]:
        commit, revision = fields.get("commit", text), fields.get("revision", text)
    if kinds == ["git"]:
        subdirectory = fields.get("subdirectory", text)
    fields.close()
    if place is None or (commit is None and kinds != ["path"]):
        node.fail("must name a place, and a commit unless that is a directory")
    if kinds == ["path"]:
        return PathSource(place)
    if kinds == ["git"]:
        return GitSource(place, revision, subdirectory, commit)
    return HubSource(place, revision, commit)
