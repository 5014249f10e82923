"""Where things lie in a store. ``specs/store.md`` is the normative text.

objects/sha256/ab/cdef...   one object: the bytes whose sha256 is abcdef..., mode 0444
tmp/                        files being written; nothing here has a meaning
staging/<hex>                downloads that have not ended; see ``partial``
quarantine/                 objects whose bytes turned out not to be what their name says
projects/<hex>              the path of a known project's lock; <hex> is the sha256 of that path
receipts/<hex>              what a no-op install may skip; see ``receipt``
gc.lock                     held shared by whoever writes or needs objects to stay, alone by the collector
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from adpm.core.names import Digest

__all__ = ["object_path", "objects"]

_NAME: Final = re.compile(r"[0-9a-f]{62}\Z")


def object_path(root: Path, digest: Digest) -> str:
    """The path of an object, as text: ``has`` is called once a blob, and a ``Path`` costs more than the stat."""
    return f"{root}/objects/sha256/{digest[7:9]}/{digest[9:]}"


def objects(root: Path) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
    """Every object with its directory entry, in no order; files with other names are no objects."""
    for shard in _entries(f"{root}/objects/sha256"):
        for entry in _entries(shard.path):
            if _NAME.match(entry.name):
                yield Digest(f"sha256:{shard.name}{entry.name}"), entry


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
