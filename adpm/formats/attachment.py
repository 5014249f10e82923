"""What is attached to a release: OCI manifests that name it as their ``subject``, and the lists of them.

Others write these too (``oras attach``): what adpm does not know is passed over, and kept in a list that it adds to.
``specs/oci.md`` is the normative text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Attachment, Blob
from adpm.errors import UsageError
from adpm.formats.json import canonical, open_json, parse_json
from adpm.formats.oci import INDEX_TYPE, MANIFEST_TYPE, TITLE, descriptor
from adpm.formats.reader import Node, integer, list_of, parsed, text

__all__ = ["EMPTY", "Part", "media_type", "read_attachment", "read_referrers", "with_referrer", "write_attachment"]

EMPTY: Final = b"{}"
"""The config blob of what has none."""

_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_FILE_TYPE: Final = "application/octet-stream"
_CODE: Final = "attachment-invalid"
_LIST_CODE: Final = "registry-invalid"
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\Z")


class Part(NamedTuple):
    """One file of an attachment, and what its writer called it."""

    title: str | None
    blob: Blob


def media_type(value: str) -> str:
    """A media type such as ``application/spdx+json``; raises ``UsageError`` (``media-type-invalid``)."""
    if not _MEDIA_TYPE.match(value):
        raise UsageError(
            "media-type-invalid",
            f"{value[:80]!r} is not a media type",
            hint="write it as TYPE/SUBTYPE, such as application/spdx+json or text/markdown",
        )
    return value


def write_attachment(subject: Blob, kind: str, parts: Iterable[Part]) -> bytes:
    """The canonical manifest of an attachment of type ``kind`` to the release ``subject``."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": descriptor(_EMPTY_TYPE, Blob.of(EMPTY)),
            "layers": [{**descriptor(_FILE_TYPE, part.blob), "annotations": {TITLE: part.title}} for part in parts],
            "subject": descriptor(MANIFEST_TYPE, subject),
        }
    )


def read_attachment(data: bytes, subject: Digest, source: str) -> tuple[Part, ...]:
    """The files of an attachment, whoever wrote its manifest; ``DocumentError`` (``attachment-invalid``) where it is
    none, or one of another release than ``subject``."""
    document = open_json(data, source=source, code=_CODE, limit=limits.OCI_MANIFEST_BYTES)
    fields = document.root.decode(Node.fields)
    document.finish()
    assert fields is not None  # noqa: S101 - finish has raised otherwise
    parts = fields.need("layers", list_of(_part, most=limits.RELEASE_FILES))
    of = fields.need("subject", _blob)
    document.finish()
    if of.digest != subject:
        document.report(("subject",), f"is {of.digest}, not {subject}")
    document.finish()
    return parts


def read_referrers(data: bytes, source: str) -> tuple[Attachment, ...]:
    """What a list of attachments lists, in its order; ``DocumentError`` (``registry-invalid``)."""
    document = open_json(data, source=source, code=_LIST_CODE, limit=limits.OCI_MANIFEST_BYTES)
    fields = document.root.decode(Node.fields)
    found = () if fields is None else fields.get("manifests", list_of(_attachment, most=limits.ATTACHMENTS))
    document.finish(hint="ask who runs the registry")
    return found or ()


def with_referrer(data: bytes | None, manifest: bytes, source: str) -> bytes:
    """The list ``data`` (None: there is none yet) with an attachment; the same bytes if it lists that already.

    Raises ``DocumentError`` (``registry-invalid``).
    """
    ours = Blob.of(manifest)
    listed: list[Any] = []
    if data is not None:
        if any(attachment.manifest == ours for attachment in read_referrers(data, source)):
            return data
        index = parse_json(data, source=source, code=_LIST_CODE, limit=limits.OCI_MANIFEST_BYTES)
        listed = index.get("manifests") or []
    kind = parse_json(manifest, source=source, code=_CODE, limit=limits.OCI_MANIFEST_BYTES)["artifactType"]
    entry = {**descriptor(MANIFEST_TYPE, ours), "artifactType": kind}
    return canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*listed, entry]})


def _attachment(node: Node) -> Attachment:
    fields = node.fields()
    kind = fields.get("artifactType", _kind) or fields.get("mediaType", _kind) or _FILE_TYPE
    return Attachment(kind, _blob(node))


def _kind(node: Node) -> str:
    return "" if node.value == "" else text(node)


def _part(node: Node) -> Part:
    notes = node.fields().get("annotations", Node.fields)
    title = None if notes is None else notes.get(TITLE, text)
    return Part(title, _blob(node))


def _blob(node: Node) -> Blob:
    fields = node.fields()
    return Blob(fields.need("digest", parsed(Digest.parse)), fields.need("size", integer(0, limits.BLOB_BYTES)))
