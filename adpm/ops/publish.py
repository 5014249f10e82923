"""``adpm publish``: a directory becomes a release, and the release part of a registry."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adpm.core.base import BaseIdentity
from adpm.core.events import Listener, Note, ignore
from adpm.core.manifest import BaseSource
from adpm.core.names import Channel, Digest
from adpm.core.release import Blob, Card, File, Listing
from adpm.errors import NotFoundError, UsageError
from adpm.formats.card import read_card, write_card
from adpm.formats.contents import check_contents
from adpm.formats.oci import write_release
from adpm.ops.base import identify
from adpm.ops.package import PackageDirectory
from adpm.registry.port import Publication, Registry
from adpm.store.files import file_chunks
from adpm.store.store import Store

__all__ = ["Prepared", "prepare", "publish"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A release as it would be published: its card, the bytes of card and manifest, and the files by digest."""

    card: Card
    card_data: bytes
    manifest: bytes
    files: tuple[File, ...]

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of the package's files."""
        return sum(file.blob.size for file in self.files)


def prepare(
    package: PackageDirectory,
    store: Store,
    *,
    base: BaseSource | None = None,
    base_by_id: bool = False,
    listener: Listener = ignore,
) -> Prepared:
    """Check ``package``, put its bytes into the store, and make card and manifest. Asks no registry.

    ``base`` stands in for what its ``adapter.yaml`` says of its base. With ``base_by_id``, a base
    that has a model id is known by that alone, whatever lies on this machine. Raises ``DocumentError`` and
    ``AdapterError`` for what can't be published, ``UsageError`` (``base-missing``) without a base.
    """
    identity = _identity(package, base, listener, by_id=base_by_id)
    with store.batch() as batch:
        files = tuple(File(name, batch.put(file_chunks(path))) for name, path in package.files.items())
    contents = {file.path: store.map(file.blob) for file in files}
    header = package.header
    card = Card(
        name=header.name,
        version=header.version,
        base=identity,
        method=check_contents(contents, identity.shape, source=str(package.root)),
        requires=header.requires,
        description=header.description,
        task=header.task,
        language=header.language,
        license=header.license,
        metrics=header.metrics,
    )
    data = write_card(card)
    read_card(data, f"the card of {header.name} {header.version}")  # what others will refuse is refused here
    return Prepared(card, data, write_release(Blob.of(data), files), files)


def publish(
    prepared: Prepared, registry: Registry, store: Store, *, init: bool = False, channel: Channel | None = None
) -> tuple[Listing, bool]:
    """Add the release to ``registry``: how it is listed, and whether it was new. The bytes come from the store.

    Then let ``channel`` mean it. Publishing the same release again changes nothing else. Raises ``RegistryError``
    (``version-taken``) if the version is there with other content, (``channels-unsupported``) before anything is sent.
    """
    if channel is not None:
        with suppress(NotFoundError):  # a registry that is still to be made
            registry.channel(prepared.card.name, channel)
    publication = Publication(
        manifest=prepared.manifest,
        card=prepared.card_data,
        sources={file.blob.digest: store.path(file.blob.digest) for file in prepared.files},
        published=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    with store.session():
        done = registry.publish(publication, init=init)
    if channel is not None:
        registry.set_channel(prepared.card.name, channel, prepared.card.version)
    return done.listing, done.created


def _identity(package: PackageDirectory, base: BaseSource | None, listener: Listener, *, by_id: bool) -> BaseIdentity:
    declared = package.manifest.base
    if by_id and declared is not None and declared.model is not None:
        return BaseIdentity(declared.model, declared.revision, None, None)
    if base is not None:
        model = base.model or (declared.model if declared is not None else None)
        identity = identify(BaseSource(model, base.revision, base.path), Path())
    elif declared is not None:
        identity = identify(declared, package.root)
    else:
        raise UsageError(
            "base-missing",
            f"{package.root} does not say which base model it was trained for",
            hint="add 'base: MODEL' to its adapter.yaml, or publish with --base DIR_OR_ID",
        )
    if identity.sketch is None:
        listener(
            Note(
                f"note: the base {identity.model or ''} is not on this machine, so the release can't say which weights "
                "it was trained on; publish with --base DIR to let adpm tell it from others of its shape"
            )
        )
    return identity
