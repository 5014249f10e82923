"""Reading files whose size nobody vouches for."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import IO

from adpm import limits
from adpm.core.names import Digest
from adpm.core.release import Blob

__all__ = ["blob_of", "chunks_of", "file_chunks", "read_bounded"]


def read_bounded(path: Path, limit: int) -> bytes:
    """The file's bytes, at most ``limit`` + 1 of them: enough for a reader to refuse what is too large."""
    with path.open("rb") as file:
        return file.read(limit + 1)


def blob_of(path: Path) -> Blob:
    """Digest and size of the file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Blob(Digest(f"sha256:{digest}"), file.tell())


def file_chunks(path: Path) -> Generator[bytes]:
    """The file's bytes, ``limits.CHUNK_BYTES`` at a time."""
    yield from chunks_of(path.open("rb"))


def chunks_of(file: IO[bytes]) -> Generator[bytes]:
    """The rest of ``file``, as ``file_chunks``; it is closed at the end, or when the caller ends."""
    with file:
        while chunk := file.read(limits.CHUNK_BYTES):
            yield chunk
