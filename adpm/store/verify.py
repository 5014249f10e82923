"""Hashing every object again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from adpm.core.names import Digest
from adpm.errors import StoreError
from adpm.store.get import quarantine
from adpm.store.layout import objects
from adpm.store.parallel import in_parallel

__all__ = ["Verified", "verify_all"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was hashed: number of objects, bytes, and the digests of those that were damaged and set aside, sorted."""

    objects: int
    size: int
    corrupt: tuple[Digest, ...]


def verify_all(root: Path, workers: int) -> Verified:
    """Hash every object with ``workers`` threads; a damaged one is set aside, to be fetched again."""
    sizes: list[int] = []
    corrupt: list[Digest] = []

    def check(entry: tuple[Digest, os.DirEntry[str]]) -> None:
        digest, path = entry[0], entry[1].path
        try:
            with Path(path).open("rb") as file:
                status = os.fstat(file.fileno())
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return  # set aside by another process meanwhile
        except OSError as error:
            raise StoreError(
                "store-failed",
                f"could not read the object {path}",
                cause=str(error),
                hint="if the disk can't read it any more, remove that file; 'adpm install' fetches it again",
            ) from error
        sizes.append(status.st_size)
        if found != digest.hex:
            quarantine(root, path, status)
            corrupt.append(digest)

    in_parallel(check, list(objects(root)), threads=workers)
    return Verified(len(sizes), sum(sizes), tuple(sorted(corrupt)))
