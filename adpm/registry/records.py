"""The small documents of the layout, and where everything lies. ``specs/registry.md`` is the normative text.

adpm-registry.json                        {"format":1}
packages/<name>/oci-layout                each package is an OCI image layout
packages/<name>/index.json                derived: all releases
packages/<name>/blobs/sha256/<hex>        immutable bytes
packages/<name>/releases/<version>/<hex>  the commit point of a release: {"published":...,"size":...}
packages/<name>/yanks/<version>/<hex>     that a release is yanked: {"reason":...}, or {} for no reason
packages/<name>/_channels/<channel>       what a channel means: {"release":...}, or {} for nothing any more
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from adpm import limits
from adpm.core.names import Channel, Digest, PackageName, parse_version
from adpm.core.release import Blob, Listing
from adpm.errors import UsageError
from adpm.formats.json import canonical, open_json
from adpm.formats.reader import Node, integer, parsed, text

__all__ = [
    "MARKER",
    "MARKER_DATA",
    "Claim",
    "Note",
    "blob_path",
    "channel_path",
    "channel_record",
    "claim_path",
    "claim_record",
    "claims",
    "notes_path",
    "package_path",
    "read_channel_record",
    "read_claim_record",
    "read_marker",
    "read_note",
    "read_release_record",
    "read_yank_record",
    "record_path",
    "release_record",
    "write_note",
    "yank_record",
]

FORMAT: Final = 1
MARKER: Final = "adpm-registry.json"
MARKER_DATA: Final = canonical({"format": FORMAT})

Claim = tuple[Version, Digest]
"""A version and the release that claims it."""


def package_path(name: PackageName, rest: str) -> str:
    return f"packages/{name}/{rest}"


def blob_path(name: PackageName, digest: Digest) -> str:
    return package_path(name, f"blobs/sha256/{digest.hex}")


def record_path(kind: str, name: PackageName, claim: Claim) -> str:
    """``kind`` is ``releases`` or ``yanks``."""
    return package_path(name, f"{kind}/{claim[0]}/{claim[1].hex}")


def claims(paths: Iterable[str]) -> Iterator[Claim]:
    """What ``<version>/<hex>`` paths claim; others are not adpm's, and are passed over."""
    for path in paths:
        version, _, hex_ = path.partition("/")
        try:
            yield parse_version(version), Digest.parse(f"sha256:{hex_}")
        except UsageError:
            continue


@dataclass(frozen=True, slots=True)
class Note:
    """That a writer is about to change a release, since when (seconds of Unix time)."""

    claim: Claim
    since: int


def notes_path(name: PackageName) -> str:
    """Where writers note what they are about to change; what lies there is named by ``write_note``."""
    return f".adpm/notes/{name.replace('/', '+')}/"


def write_note(claim: Claim, since: int) -> str:
    return f"{since}+{claim[0]}+{claim[1].hex}"


def read_note(path: str) -> Note | None:
    """None of what is no note."""
    since, _, rest = path.partition("+")
    found = next(claims([rest.replace("+", "/")]), None)
    return Note(found, int(since)) if found is not None and since.isdecimal() and len(since) < 16 else None


def claim_path(name: PackageName, version: Version) -> str:
    """Where writers keep who may commit a version: relative to what a place has for that."""
    return f"{name.replace('/', '+')}/{version}"


def claim_record(digest: Digest, since: int) -> bytes:
    """``since``: seconds of Unix time."""
    return canonical({"release": digest, "since": since})


def read_claim_record(data: bytes, source: str) -> tuple[Digest, int]:
    document = open_json(data, source=source, code="registry-invalid", limit=limits.RECORD_BYTES)
    record = document.root.decode(_claim)
    document.finish(hint="remove it: nothing is lost")
    assert record is not None  # noqa: S101 - finish has raised otherwise
    return record


def _claim(node: Node) -> tuple[Digest, int]:
    fields = node.fields()
    record = fields.need("release", parsed(Digest.parse)), fields.need("since", integer(0, limits.INTEGER_MAX))
    fields.close()
    return record


def read_marker(data: bytes, source: str) -> None:
    """Check that this adpm can read the registry; raises ``DocumentError`` (``registry-invalid``)."""
    document = open_json(data, source=source, code="registry-invalid", limit=limits.RECORD_BYTES)
    document.root.decode(_marker)
    document.finish(hint="a newer adpm may read this registry")


def _marker(node: Node) -> None:
    fields = node.fields()
    fields.need("format", _format)
    fields.close()


def _format(node: Node) -> None:
    if node.value != FORMAT or isinstance(node.value, bool):
        node.fail(f"this adpm reads registry format {FORMAT}, this is {node.value!r}")


def release_record(listing: Listing) -> bytes:
    return canonical({"size": listing.manifest.size, "published": listing.published})


def read_release_record(data: bytes, digest: Digest, source: str) -> tuple[Blob, str]:
    """The release's manifest, and when it was published."""
    document = open_json(data, source=source, code="registry-invalid", limit=limits.RECORD_BYTES)
    record = document.root.decode(_release)
    document.finish()
    assert record is not None  # noqa: S101 - finish has raised otherwise
    return Blob(digest, record[0]), record[1]


def _release(node: Node) -> tuple[int, str]:
    fields = node.fields()
    record = fields.need("size", integer(1, limits.OCI_MANIFEST_BYTES)), fields.need("published", text)
    fields.close()
    return record


def yank_record(reason: str) -> bytes:
    return canonical({"reason": reason} if reason else {})


def read_yank_record(data: bytes, source: str) -> str:
    document = open_json(data, source=source, code="registry-invalid", limit=limits.RECORD_BYTES)
    reason = document.root.decode(_reason)
    document.finish()
    return reason or ""


def _reason(node: Node) -> str:
    fields = node.fields()
    reason = fields.get("reason", text, default="")
    fields.close()
    return reason


def channel_path(name: PackageName, channel: Channel | None = None) -> str:
    """None: what all paths of the package's channels begin with."""
    return package_path(name, f"_channels/{channel or ''}")


def channel_record(release: Digest | None) -> bytes:
    """None: the channel was removed. No document is, for not every place can remove one that others replace."""
    return canonical({} if release is None else {"release": release})


def read_channel_record(data: bytes, source: str) -> Digest | None:
    document = open_json(data, source=source, code="registry-invalid", limit=limits.RECORD_BYTES)
    release = document.root.decode(_channel)
    document.finish(hint="'adpm channel set' writes it anew")
    return release


def _channel(node: Node) -> Digest | None:
    fields = node.fields()
    release = fields.get("release", parsed(Digest.parse))
    fields.close()
    return release
