"""What is attached to a release in a registry: signatures, model cards of others, results of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from adpm.core.names import PackageName
from adpm.core.release import Attachment, Blob
from adpm.errors import NotFoundError, UsageError
from adpm.formats.attachment import EMPTY, Part, media_type, read_attachment, write_attachment
from adpm.formats.oci import package_path
from adpm.registry.port import Registry
from adpm.store.files import blob_of
from adpm.store.store import Store

__all__ = ["attach", "attachments", "save_attachment"]


def attachments(registry: Registry, name: PackageName, version: Version) -> tuple[Attachment, ...]:
    """What is attached to a release. Raises as ``Registry.listing`` and ``Registry.attachments``."""
    return registry.attachments(name, registry.listing(name, version).manifest)


def attach(registry: Registry, name: PackageName, version: Version, files: Sequence[Path], kind: str) -> Attachment:
    """Attach ``files`` of the media type ``kind`` to a release; attaching the same again changes nothing.

    Raises ``UsageError`` (``media-type-invalid``, ``path-invalid``, ``file-unreadable``), and as ``attachments``.
    """
    media_type(kind)
    release = registry.listing(name, version).manifest
    sources: dict[Blob, Path | bytes] = {Blob.of(EMPTY): EMPTY}
    parts = []
    for file in files:
        try:
            blob = blob_of(file)
        except OSError as error:
            raise UsageError(
                "file-unreadable",
                f"{file} can't be read",
                cause=error.strerror or str(error),
                hint="name files that you can read",
            ) from error
        sources[blob] = file
        parts.append(Part(package_path(file.name), blob))
    manifest = write_attachment(release, kind, parts)
    registry.attach(name, release, manifest, sources)
    return Attachment(kind, Blob.of(manifest))


def save_attachment(
    registry: Registry, name: PackageName, version: Version, digest: str, *, to: Path, store: Store
) -> list[Path]:
    """Bring the files of one attachment, verified, into the directory ``to``, which is made; where they lie then.

    ``digest`` is the attachment's, or how it begins. A file has the name that its writer gave it, or where that can't
    be a plain name, its digest's. Raises ``NotFoundError`` (``attachment-not-found``), ``UsageError``
    (``attachment-ambiguous``, ``file-exists``), and as ``attachments``.
    """
    release = registry.listing(name, version).manifest
    found = _one(registry.attachments(name, release), digest, f"{name} {version}")
    source = f"the attachment {found.manifest.digest.short} of {name} {version}"
    parts = read_attachment(registry.release(name, found.manifest), release.digest, source)
    targets = _targets(parts, to)
    for target in targets:
        if target.exists():
            raise UsageError("file-exists", f"{target} is there already", hint="name another directory with --to")
    for part, target in zip(parts, targets, strict=True):
        store.put(registry.blob(name, part.blob), part.blob)
        store.link_out(part.blob, target)
    return targets


def _one(there: Sequence[Attachment], digest: str, release: str) -> Attachment:
    wanted = digest.removeprefix("sha256:")
    found = [entry for entry in there if wanted and entry.manifest.digest.hex.startswith(wanted)]
    if not found:
        raise NotFoundError(
            "attachment-not-found",
            f"nothing with the digest {digest} is attached to {release}",
            hint=f"there are: {', '.join(entry.manifest.digest.short for entry in there) or 'none'}",
        )
    if len(found) > 1:
        raise UsageError(
            "attachment-ambiguous",
            f"{len(found)} attachments of {release} begin with {digest}",
            hint=f"they are: {', '.join(entry.manifest.digest for entry in found)}",
        )
    return found[0]


def _targets(parts: Sequence[Part], directory: Path) -> list[Path]:
    names: list[str] = []
    for part in parts:
        try:
            names.append(package_path(part.title or "").replace("/", "-"))
        except UsageError:
            names.append(part.blob.digest.hex)
    if len({name.lower() for name in names}) < len(names):
        names = [f"{i}-{part.blob.digest.hex}" for i, part in enumerate(parts)]
    return [directory / name for name in names]
