"""Sending a blob to an OCI registry: mounted from where it lies, in one piece, or in chunks that survive cuts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlencode

from adpm import limits
from adpm.core.release import Blob
from adpm.errors import AdpmError, NotFoundError, RegistryError
from adpm.net.faults import TransientError
from adpm.registry.distribution import Distribution

__all__ = ["upload"]

_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")
_BYTES: Final = {"Content-Type": "application/octet-stream"}


def upload(
    registry: Distribution,
    repository: str,
    blob: Blob,
    chunks: Iterable[bytes],
    *,
    mount: str | None = None,
    piece: int = limits.UPLOAD_CHUNK_BYTES,
) -> None:
    """Store ``blob``. Of ``chunks``, which may end in an error, ``piece`` bytes are held in memory; only when all have
    come does the blob get its name. ``mount`` is a repository that has it: then perhaps nothing need be sent.

    Where the registry forgets an upload that is under way, another one begins, with ``chunks`` from their beginning.
    """
    work, tries = _Upload(registry, repository, blob), registry.client.tries()
    data = b"".join(chunks) if blob.size <= piece else None
    while True:
        location = work.start(mount)
        if location is None:
            return
        try:
            if data is not None:
                work.finish(location, data)  # cut off, it leaves nothing to go on with
            else:
                work.in_pieces(location, _pieces(chunks, piece))
        except TransientError as failure:
            tries.wait_or_raise(failure)
        except NotFoundError as error:
            tries.wait_or_raise(TransientError(error))
        else:
            return
        if work.there():
            return  # only the answer was lost


class _Upload:
    def __init__(self, registry: Distribution, repository: str, blob: Blob) -> None:
        self._registry = registry
        self._repository = repository
        self._blob = blob

    def start(self, mount: str | None) -> str | None:
        """Where to send the blob; None if it was mounted."""
        query = "" if mount is None else "?" + urlencode({"mount": self._blob.digest, "from": mount})
        url = self._registry.at(self._repository, "blobs/uploads/")
        answer = self._registry.exchange("POST", url + query, good={201, 202}, body=b"")
        return None if answer.status == 201 else self._registry.location(answer, url)

    def in_pieces(self, location: str, pieces: Iterator[bytes]) -> None:
        """``NotFoundError`` where the registry knows nothing of the upload, or no more."""
        try:
            offset = 0
            for piece in pieces:
                location = self._patch(location, piece, offset)
                offset += len(piece)
            self._close(location)
        except BaseException as error:
            if not isinstance(error, NotFoundError):
                with suppress(AdpmError):  # the registry drops it sometime anyway
                    self._registry.exchange("DELETE", location, good={200, 202, 204})
            raise

    def there(self) -> bool:
        return self._registry.has_blob(self._repository, self._blob.digest)

    def _patch(self, location: str, piece: bytes, offset: int) -> str:
        """Send ``piece``, which begins at ``offset`` of the blob; after a cut, what of it did not arrive."""
        tries, done = self._registry.client.tries(), 0
        while True:
            part = {"Content-Range": f"{offset + done}-{offset + len(piece) - 1}", **_BYTES}
            try:
                answer = self._registry.exchange(
                    "PATCH", location, good={200, 202, 204}, headers=part, body=piece[done:], again=False
                )
                return self._registry.location(answer, location)
            except TransientError as failure:
                tries.wait_or_raise(failure)
            location, arrived = self._arrived(location)
            progress, done = arrived - offset - done, arrived - offset
            if not 0 <= done <= len(piece):
                raise RegistryError(
                    "registry-failed",
                    f"an upload of {self._blob.digest} can't go on",
                    cause=f"the registry says that {arrived} bytes have come, of {offset + len(piece)} that were sent",
                    hint="run the same command again",
                )
            tries.progress(max(0, progress))
            if done == len(piece):
                return location

    def _arrived(self, location: str) -> tuple[str, int]:
        """Where to go on, and how many bytes have arrived."""
        answer = self._registry.exchange("GET", location, good={200, 202, 204})
        match = _RANGE.match(answer.headers.get("range", ""))
        last = int(match[1]) if match else 0
        return self._registry.location(answer, location), last + 1 if last else 0  # 0-0 stands for nothing, too

    def _close(self, location: str) -> None:
        tries = self._registry.client.tries()
        while True:
            try:
                self.finish(location, b"")
            except TransientError as failure:
                tries.wait_or_raise(failure)
            except NotFoundError:  # an upload that was closed is gone
                if not self.there():
                    raise
                return
            else:
                return
            if self.there():
                return

    def finish(self, location: str, data: bytes) -> None:
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': self._blob.digest})}"
        self._registry.exchange("PUT", url, good={201, 202, 204}, headers=_BYTES, body=data, again=False)


def _pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of ``size``, but for the last."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
