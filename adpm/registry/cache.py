"""Documents of earlier runs with their ETags: a server then need not send what has not changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from adpm.core.names import Digest
from adpm.net.client import Document
from adpm.store.durable import temporary

__all__ = ["DocumentCache"]


class DocumentCache:
    """One file a URL in ``directory``: the digest of the content, the ETag, the content. Nobody relies on it: what
    can't be read is not there, what can't be written is not kept. Files are private to the user."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, url: str) -> Document | None:
        try:
            digest, etag, data = self._path(url).read_bytes().split(b"\n", 2)
        except (OSError, ValueError):
            return None
        return Document(data, etag.decode("latin-1")) if Digest.of(data).encode() == digest else None

    def put(self, url: str, document: Document) -> None:
        if document.etag is None:
            return
        try:
            descriptor, path = temporary(self._directory)
            with os.fdopen(descriptor, "wb") as file:
                file.write(
                    b"\n".join([Digest.of(document.data).encode(), document.etag.encode("latin-1"), document.data])
                )
            path.replace(self._path(url))
        except OSError:
            return

    def _path(self, url: str) -> Path:
        return self._directory / hashlib.sha256(url.encode()).hexdigest()
