"""A release: one version of a package, immutable, named by the digest of its OCI manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.names import Digest, PackageName
from adpm.core.requirement import Requirement

__all__ = ["Attachment", "Blob", "Card", "File", "Listing", "Method", "Metric", "Release"]


@dataclass(frozen=True, slots=True)
class Blob:
    """Any bytes, by what they are: digest and size in bytes."""

    digest: Digest
    size: int

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The blob of these bytes."""
        return cls(Digest.of(data), len(data))


@dataclass(frozen=True, slots=True)
class File:
    """A file of a package: its path inside the package (``/``-separated, relative), and its bytes."""

    path: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class Metric:
    """A score that the publisher claims: ``accuracy 0.924 on sst-2/validation``."""

    name: str
    value: float
    dataset: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How the adapter acts: who wrote the files, and the method's own name (``bottleneck``, ``lora``)."""

    format: Literal["adapterhub", "peft"]
    kind: str


@dataclass(frozen=True, slots=True)
class Card:
    """What a release says of itself; the config blob of its OCI manifest."""

    name: PackageName
    version: Version
    base: BaseIdentity
    method: Method
    requires: tuple[Requirement, ...] = ()  # sorted by name
    description: str | None = None
    task: str | None = None  # "task/dataset", AdapterHub's hierarchy
    language: str | None = None
    license: str | None = None
    metrics: tuple[Metric, ...] = ()
    parents: tuple[Digest, ...] = ()  # the releases it was trained or merged from


@dataclass(frozen=True, slots=True)
class Release:
    """The OCI manifest as a value: its own bytes' digest and size, the card's blob, the package's files by path."""

    manifest: Blob
    card: Blob
    files: tuple[File, ...]  # sorted by path


@dataclass(frozen=True, slots=True)
class Listing:
    """One release as a registry's index lists it, for the resolver. A hint until the card is compared with it."""

    name: PackageName
    version: Version
    manifest: Blob
    requires: tuple[Requirement, ...]
    base: BaseIdentity
    yanked: str | None = None  # the reason, possibly empty; None: not yanked
    published: str | None = None  # RFC 3339, UTC; when the registry took it
    license: str | None = None
    metrics: tuple[Metric, ...] = ()

    @classmethod
    def of(cls, card: Card, manifest: Blob, published: str | None = None) -> Self:
        """The listing of the release with this card."""
        return cls(
            name=card.name,
            version=card.version,
            manifest=manifest,
            requires=card.requires,
            base=card.base,
            published=published,
            license=card.license,
            metrics=card.metrics,
        )


@dataclass(frozen=True, slots=True)
class Attachment:
    """What somebody attached to a release: its media type, and the manifest that names its files."""

    kind: str
    manifest: Blob
