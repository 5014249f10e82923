"""OCI image manifests and indexes as adpm writes them: a release is a manifest, a package's index an image index.

``skopeo``, ``oras`` and ``crane`` move what is written here without knowing adpm. See ``specs/release.md`` and
``specs/registry.md`` for the normative text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final, TypeVar

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.names import Digest, PackageName, parse_version
from adpm.core.release import Blob, File, Listing, Release
from adpm.errors import UsageError
from adpm.formats.base import base_node, base_value
from adpm.formats.card import license_, metric, metric_value, requires_node, requires_value
from adpm.formats.json import canonical, open_json
from adpm.formats.reader import Decoder, Fields, Node, integer, list_of, parsed, text

__all__ = [
    "ARTIFACT_TYPE",
    "CARD_TYPE",
    "FILE_TYPE",
    "INDEX_TYPE",
    "LAYOUT",
    "MANIFEST_TYPE",
    "TITLE",
    "clash",
    "descriptor",
    "package_path",
    "read_index",
    "read_release",
    "write_index",
    "write_release",
]

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.adpm.adapter.v1+json"
CARD_TYPE: Final = "application/vnd.adpm.card.v1+json"
FILE_TYPE: Final = "application/vnd.adpm.file.v1"
LAYOUT: Final = canonical({"imageLayoutVersion": "1.0.0"})

T = TypeVar("T")

TITLE: Final = "org.opencontainers.image.title"
_REF: Final = "org.opencontainers.image.ref.name"
_CREATED: Final = "org.opencontainers.image.created"
_LICENSE: Final = "dev.adpm.license"
_METRICS: Final = "dev.adpm.metrics"
_REQUIRES: Final = "dev.adpm.requires"
_BASE: Final = "dev.adpm.base"
_YANKED: Final = "dev.adpm.yanked"
_TIME: Final = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z\Z")
_SLASH: Final = re.compile("/")
_PATH_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")


def package_path(value: str) -> str:
    """A file's path inside a package: relative, ``/``-separated parts of ``[A-Za-z0-9._+-]`` that start with no dot.

    Raises ``UsageError`` (``path-invalid``): nothing that could leave a directory, hide in it, or differ only in
    how a file system folds it comes in here.
    """
    parts = value.split("/")
    if len(value) > limits.PATH_CHARACTERS or not all(_PATH_PART.match(part) for part in parts):
        raise UsageError(
            "path-invalid",
            f"{value[:80]!r} is not a plain relative path",
            hint=f"use '/' between parts of letters, digits, '.', '_', '+', '-'; no leading dot; at most "
            f"{limits.PATH_CHARACTERS} characters",
        )
    return value


def descriptor(media_type: str, blob: Blob) -> dict[str, str | int]:
    """What every OCI descriptor has."""
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def write_release(card: Blob, files: Iterable[File]) -> bytes:
    """The canonical OCI manifest over a card and a package's files, whatever their order."""
    ordered = sorted(files, key=lambda f: f.path)
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": descriptor(CARD_TYPE, card),
            "layers": [{**descriptor(FILE_TYPE, file.blob), "annotations": {TITLE: file.path}} for file in ordered],
        }
    )


def read_release(data: bytes, source: str) -> Release:
    """Read a release's manifest; raises ``DocumentError`` (``release-invalid``).

    Strict: it must be the very bytes that ``write_release`` makes of its content, so that one content has one digest.
    """
    document = open_json(data, source=source, code="release-invalid", limit=limits.OCI_MANIFEST_BYTES)
    root = document.root.decode(Node.fields)
    document.finish()
    assert root is not None  # noqa: S101 - finish has raised otherwise
    root.need("schemaVersion", _exactly(2))
    root.need("mediaType", _exactly(MANIFEST_TYPE))
    root.need("artifactType", _exactly(ARTIFACT_TYPE))
    card = root.need("config", _card)
    files = root.need("layers", list_of(_file, most=limits.RELEASE_FILES))
    root.close()
    document.finish()
    if why := clash(files):
        document.report(("layers",), why)
    elif [file.path for file in files] != sorted(file.path for file in files):
        document.report(("layers",), "files are not sorted by path")
    elif data != write_release(card, files):
        document.report((), "is not in canonical form")
    document.finish()
    return Release(Blob.of(data), card, files)


def clash(files: Iterable[File]) -> str | None:
    """Why not all of ``files`` can lie in one directory; None if they can."""
    folded: set[str] = set()
    folders: set[str] = set()
    for path in (file.path.lower() for file in files):
        if path in folded:
            return f"two files have the path {path!r} (capital letters don't tell files apart everywhere)"
        folded.add(path)
        folders.update(path[: slash.start()] for slash in _SLASH.finditer(path))
    both = sorted(folded & folders)
    return f"{both[0]!r} is a file and a directory" if both else None


def _exactly(wanted: object) -> Decoder[None]:
    def decode(node: Node) -> None:
        if node.value != wanted or type(node.value) is not type(wanted):
            node.fail(f"must be {wanted!r}")

    return decode


def _card(node: Node) -> Blob:
    fields = node.fields()
    blob = _blob(fields, CARD_TYPE, limits.CARD_BYTES)
    fields.close()
    return blob


def _blob(fields: Fields, media_type: str, most: int) -> Blob:
    """What every descriptor has; ``most`` is the blob's greatest size in bytes."""
    fields.need("mediaType", _exactly(media_type))
    return Blob(digest=fields.need("digest", parsed(Digest.parse)), size=fields.need("size", integer(0, most)))


def _file(node: Node) -> File:
    fields = node.fields()
    blob = _blob(fields, FILE_TYPE, limits.BLOB_BYTES)
    path = fields.need("annotations", _title)
    fields.close()
    return File(path, blob)


def _title(node: Node) -> str:
    fields = node.fields()
    path = fields.need(TITLE, parsed(package_path))
    fields.close()
    return path


def write_index(listings: Iterable[Listing]) -> bytes:
    """The canonical image index over a package's releases, by version; what the resolver needs are annotations."""
    ordered = sorted(listings, key=lambda entry: (entry.version, entry.manifest.digest))
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [
                {
                    **descriptor(MANIFEST_TYPE, entry.manifest),
                    "artifactType": ARTIFACT_TYPE,
                    "annotations": _annotations(entry),
                }
                for entry in ordered
            ],
        }
    )


def _annotations(entry: Listing) -> dict[str, str]:
    out = {_REF: str(entry.version), _BASE: canonical(base_value(entry.base)).decode("utf-8")}
    if entry.requires:
        out[_REQUIRES] = canonical(requires_value(entry.requires)).decode("utf-8")
    if entry.yanked is not None:
        out[_YANKED] = entry.yanked
    if entry.published is not None:
        out[_CREATED] = entry.published
    if entry.license is not None:
        out[_LICENSE] = entry.license
    if entry.metrics:
        out[_METRICS] = canonical([metric_value(metric) for metric in entry.metrics]).decode("utf-8")
    return out


def read_index(data: bytes, name: PackageName, source: str) -> tuple[Listing, ...]:
    """Read a package's index; raises ``DocumentError`` (``index-invalid``). Foreign annotations are ignored."""
    document = open_json(data, source=source, code="index-invalid", limit=limits.INDEX_BYTES)
    root = document.root.decode(Node.fields)
    document.finish()
    assert root is not None  # noqa: S101 - finish has raised otherwise
    root.need("schemaVersion", _exactly(2))
    root.need("mediaType", _exactly(INDEX_TYPE))
    entries = root.need("manifests", list_of(_Listings(name), most=limits.INDEX_RELEASES))
    root.close()
    document.finish(hint="the owner of the registry can rebuild the index from its releases")
    return entries


class _Listings:
    """Decodes the entries of one index of the package ``name``."""

    def __init__(self, name: PackageName) -> None:
        self._name = name
        self._requires = _embedded(requires_node)
        self._base = _embedded(base_node)
        self._metrics = _embedded(list_of(metric, most=limits.METRICS))

    def __call__(self, node: Node) -> Listing:
        fields = node.fields()
        manifest = _blob(fields, MANIFEST_TYPE, limits.OCI_MANIFEST_BYTES)
        fields.need("artifactType", _exactly(ARTIFACT_TYPE))
        listing = fields.need("annotations", lambda notes: self._noted(notes, manifest))
        fields.close()
        return listing

    def _noted(self, node: Node, manifest: Blob) -> Listing:
        """The listing that the annotations of a descriptor tell; those of others are ignored."""
        notes = node.fields()
        return Listing(
            name=self._name,
            version=notes.need(_REF, parsed(parse_version)),
            manifest=manifest,
            requires=notes.get(_REQUIRES, self._requires, default=()),
            base=notes.get(_BASE, self._base, default=BaseIdentity(None, None, None, None)),
            yanked=notes.get(_YANKED, lambda reason: "" if reason.value == "" else text(reason)),
            published=notes.get(_CREATED, _time),
            license=notes.get(_LICENSE, license_),
            metrics=notes.get(_METRICS, self._metrics, default=()),
        )


def _time(node: Node) -> str:
    value = text(node)
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z")
        known = _TIME.match(value) is not None
    except ValueError:
        known = False
    if not known:
        node.fail(f"{value[:80]!r} is not a time such as 2026-01-31T12:00:00Z")
    return value


def _embedded(decoder: Decoder[T]) -> Decoder[T]:
    """An annotation that is itself JSON: its faults are faults of the index. Releases often say the same: once read, it
    is known."""
    known: dict[str, T] = {}

    def decode(node: Node) -> T:
        said = text(node)
        if said not in known:
            inner = open_json(said.encode("utf-8"), source="its JSON", code="index-invalid", limit=limits.CARD_BYTES)
            value = inner.root.decode(decoder)
            if value is None or inner.faults:
                node.fail("; ".join(map(str, inner.faults)))
            known[said] = value
        return known[said]

    return decode
