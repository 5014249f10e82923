"""The documents that a repository of the Hub holds for adpm. ``specs/hub.md`` is the normative text.

.adpm/manifest.json  the release's manifest, byte for byte
.adpm/card.json      its card, byte for byte
.adpm/release.json   a record that lists this release alone
.adpm/index.json     on the main branch: a record of all releases and yanks
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName, parse_version
from adpm.core.release import Listing, Release
from adpm.errors import DocumentError, Fault
from adpm.formats.json import canonical, open_json, pretty
from adpm.formats.oci import package_path, read_index, write_index
from adpm.formats.reader import Node, map_of, parsed, text

__all__ = [
    "CARD",
    "INDEX",
    "MANIFEST",
    "OWN",
    "RECORD",
    "Entry",
    "Record",
    "entry_of",
    "read_record",
    "with_yanks",
    "write_record",
]

OWN: Final = ".adpm/"
MANIFEST: Final = f"{OWN}manifest.json"
CARD: Final = f"{OWN}card.json"
RECORD: Final = f"{OWN}release.json"
INDEX: Final = f"{OWN}index.json"
_FORMAT: Final = 1

Yanks = Mapping[tuple[Version, Digest], str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A release, and where its bytes lie: paths in the repository by digest, at ``commit`` (None: not known yet)."""

    listing: Listing
    paths: Mapping[Digest, str]
    commit: str | None = None

    @property
    def is_published(self) -> bool:
        """Whether adpm made the commit; else the release is derived from what others put there."""
        return MANIFEST in self.paths.values()


@dataclass(frozen=True, slots=True)
class Record:
    """Entries by version, and the reasons of yanks. The listings of entries are never yanked themselves."""

    name: PackageName
    entries: Mapping[Version, Entry] = field(default_factory=dict)
    yanks: Yanks = field(default_factory=dict)


def entry_of(listing: Listing, release: Release, commit: str | None = None) -> Entry:
    """The entry of a release that adpm publishes: its files lie at the top, as they are in the package."""
    paths = {release.manifest.digest: MANIFEST, release.card.digest: CARD}
    paths |= {file.blob.digest: file.path for file in reversed(release.files)}
    return Entry(replace(listing, yanked=None), paths, commit)


def write_record(record: Record) -> bytes:
    """The bytes of ``record``: an OCI index as elsewhere, and beside it what only the Hub needs."""
    releases: dict[str, Any] = {}
    for version, entry in record.entries.items():
        found: dict[str, Any] = {"paths": dict(entry.paths)}
        if entry.commit is not None:
            found["commit"] = entry.commit
        releases[str(version)] = found
    yanks: dict[str, dict[str, str]] = {}
    for (version, digest), reason in record.yanks.items():
        yanks.setdefault(str(version), {})[digest] = reason
    index = json.loads(write_index(entry.listing for entry in record.entries.values()))
    value = {"format": _FORMAT, "name": record.name, "index": index, "releases": releases}
    return pretty(value | ({"yanks": yanks} if yanks else {}))


def read_record(data: bytes, source: str) -> Record:
    """Read a record; raises ``DocumentError`` (``registry-invalid``, ``index-invalid``)."""
    document = open_json(data, source=source, code="registry-invalid", limit=limits.INDEX_BYTES)
    root = document.root.decode(Node.fields)
    document.finish()
    assert root is not None  # noqa: S101 - finish has raised otherwise
    root.need("format", _format)
    name = root.need("name", parsed(PackageName.parse))
    index = root.need("index", lambda node: canonical(node.value))
    releases = root.need("releases", map_of(parse_version, _release))
    yanks = root.get("yanks", map_of(parse_version, map_of(Digest.parse, _reason)))
    root.close()
    document.finish(hint="a newer adpm may read it; else undo the last change of it in the repository")
    listings = {listing.version: listing for listing in read_index(index, name, source)}
    if listings.keys() != releases.keys():
        raise DocumentError("registry-invalid", source, [Fault("releases", "are not those of the index")])
    entries = {version: Entry(listings[version], *releases[version]) for version in listings}
    return Record(
        name, entries, {(v, digest): why for v, found in (yanks or {}).items() for digest, why in found.items()}
    )


def _format(node: Node) -> None:
    if node.value != _FORMAT or isinstance(node.value, bool):
        node.fail(f"this adpm reads format {_FORMAT}, this is {node.value!r}")


def _release(node: Node) -> tuple[dict[Digest, str], str | None]:
    fields = node.fields()
    found = fields.need("paths", map_of(Digest.parse, _path)), fields.get("commit", text)
    fields.close()
    return found


def _path(node: Node) -> str:
    value = text(node)
    return value if value in {MANIFEST, CARD} else package_path(value)


def _reason(node: Node) -> str:
    return "" if node.value == "" else text(node)


def with_yanks(entries: Iterable[Entry], yanks: Yanks) -> tuple[Listing, ...]:
    """The listings by version, yanked where ``yanks`` say so."""
    listings = [entry.listing for entry in entries]
    return tuple(
        replace(listing, yanked=yanks.get((listing.version, listing.manifest.digest)))
        for listing in sorted(listings, key=lambda listing: listing.version)
    )
