"""Releases to publish: small, real, canonical."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.version import Version

from adpm.core.base import BaseIdentity, Shape
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Card, File, Method
from adpm.core.requirement import Requirement
from adpm.formats.card import write_card
from adpm.formats.oci import write_release
from adpm.registry.port import Publication

__all__ = ["BASE", "NOW", "make", "make_card"]

BASE = BaseIdentity("google-bert/bert-base-uncased", None, Shape("bert", (("hidden_size", 768),)), None)
NOW = "2026-01-31T12:00:00Z"
_numbers = itertools.count()


def make_card(name: str = "text/sst-2", version: str = "1.0.0", requires: Iterable[str] = ()) -> Card:
    needed = tuple(sorted((Requirement.parse(text) for text in requires), key=lambda requirement: requirement.name))
    return Card(PackageName.parse(name), Version(version), BASE, Method("adapterhub", "bottleneck"), needed)


def make(
    directory: Path,
    name: str = "text/sst-2",
    version: str = "1.0.0",
    *,
    files: Mapping[str, bytes] | None = None,
    requires: Iterable[str] = (),
    published: str = NOW,
) -> Publication:
    """A publication whose files lie below ``directory``."""
    contents = files if files is not None else {"adapter_config.json": b"{}", "weights": f"{name} {version}".encode()}
    card = write_card(make_card(name, version, requires))
    here = directory / f"package-{next(_numbers)}"
    here.mkdir()
    sources, listed = {}, []
    for path, data in contents.items():
        digest = Digest.of(data)
        sources[digest] = here / path
        sources[digest].write_bytes(data)
        listed.append(File(path, Blob(digest, len(data))))
    return Publication(write_release(Blob.of(card), listed), card, sources, published)
