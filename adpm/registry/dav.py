"""A WebDAV server (RFC 4918) as a store of objects: Apache, nginx with its extension, wsgidav, and other servers.

Two things can't be relied on. A ``PUT`` may be seen half done, so what must be whole or absent is put under a name that
nobody reads, then moved. And what a server keeps of conditions one at a time it may not keep in a race (Apache), so the
index is never swapped, only written and read again; see ``specs/registry.md``.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from threading import Lock
from typing import IO, Final
from urllib.parse import quote, urlsplit

from adpm import limits
from adpm.errors import AdpmError, LoginNeededError, NotFoundError, RegistryError
from adpm.net.client import Answer, Client
from adpm.net.faults import TransientError
from adpm.net.url import shown
from adpm.registry.bucket import Bucket, stage_name
from adpm.registry.multistatus import PROPFIND, Entry, read_listing
from adpm.registry.place import Ability, Content
from adpm.store.parallel import in_parallel

__all__ = ["DavBucket"]

_LACKING: Final = frozenset({405, 501})  # the server does not know the method
_REFUSALS: Final = frozenset({400, 405, 409, 411, 412, 413, 415, 422, 423, 424, 501, 502, 507})
_BYTES: Final = {"Content-Type": "application/octet-stream"}


class DavBucket(Bucket):
    """What lies below ``url``, which has no ``/`` at its end. Collections are made as they are needed."""

    can_create = True  # by a MOVE that must not overwrite; whether the server keeps that is tried
    can_swap = False
    stages = True

    def __init__(self, url: str, client: Client) -> None:
        self._url = url
        self._client = client
        self._made: set[str] = set()
        self._lock = Lock()

    def get(self, key: str, limit: int) -> Content:
        with _missing(key):
            document = self._client.document(self._at(key), limit=limit)
        return Content(document.data, document.etag)

    def stream(self, key: str, size: int, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        with _missing(key):
            yield from self._client.stream(self._at(key), size=size, offset=start, stop=stop)

    def size(self, key: str) -> int | None:
        try:
            answer = self._exchange("HEAD", self._at(key), {200})
        except NotFoundError:
            return None
        length = answer.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            return int(length)
        own, _ = self._listing(key, depth=0)  # Apache does not tell the length of what is empty
        return None if own is None else own.size or 0

    def put(self, key: str, data: bytes) -> None:
        self._collection(key)
        self._exchange("PUT", self._at(key), {200, 201, 204}, headers=_BYTES, body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        if not self._moved(key, data):
            return False
        # Of two who moved at the same time, both may have been told that nothing was there: the later one's is.
        return len(data) > limits.RECORD_BYTES or self.get(key, limits.RECORD_BYTES).data == data

    def swap(self, key: str, data: bytes, token: str) -> bool:
        raise NotImplementedError

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        with tempfile.TemporaryFile() as file:  # so that it can be sent again after a cut
            file.writelines(chunks)
            self._moved(key, file)

    def list(self, prefix: str) -> Iterator[str]:
        waiting = [prefix.rstrip("/")]
        while waiting:
            listed = self._listings(waiting)
            waiting = []
            for at, entries in listed.items():
                for entry in entries:
                    path = f"{at}/{entry.name}".lstrip("/")
                    if entry.collection:
                        waiting.append(path)
                    else:
                        yield path.removeprefix(prefix)

    def _listings(self, paths: Iterable[str]) -> dict[str, Sequence[Entry]]:
        """What each collection holds. Many servers list one level at a time alone."""
        out: dict[str, Sequence[Entry]] = {}

        def ask(path: str) -> None:
            out[path] = self._listing(path)[1]

        in_parallel(ask, list(paths), threads=limits.CONNECTIONS)
        return out

    def remove(self, key: str) -> None:
        """Remove what lies under ``key``, if anything does."""
        with suppress(NotFoundError):
            self._exchange("DELETE", self._at(key), {200, 202, 204})

    def check(self, *, write: bool) -> Iterator[Ability]:
        """What the server itself makes of conditions, which adpm does not rely on; with ``write`` alone."""
        if not write:
            return
        key = f".adpm/check-{secrets.token_hex(8)}"
        try:
            self.put(key, b"one")
            for name, header in (("If-None-Match: *", "If-None-Match"), ("If-Match", "If-Match")):
                value = "*" if header == "If-None-Match" else f'"{secrets.token_hex(16)}"'
                answer = self._client.exchange(
                    "PUT", self._at(key), good=range(200, 500), headers={**_BYTES, header: value}, body=b"two"
                )
                kept = self.get(key, limits.RECORD_BYTES).data == b"one"
                words = "keeps it" if kept else "ignores it, and overwrites"
                yield Ability(name, kept, f"PUT {words} (HTTP {answer.status}); adpm relies on MOVE instead")
                self.put(key, b"one")
        finally:
            self.remove(key)

    def _moved(self, key: str, data: bytes | IO[bytes]) -> bool:
        """Write to where nothing is; False if something is."""
        stage = stage_name()
        self._collection(stage)
        self._collection(key)
        try:
            self._exchange("PUT", self._at(stage), {200, 201, 204}, headers=_BYTES, body=data)
            moved = self._move(stage, key)
        except BaseException:
            with suppress(AdpmError, OSError):
                self.remove(stage)
            raise
        if not moved:
            self.remove(stage)
        return moved

    def _move(self, stage: str, key: str) -> bool:
        headers = {"Destination": self._at(key), "Overwrite": "F"}
        tries = self._client.tries()
        while True:
            try:
                answer = self._exchange("MOVE", self._at(stage), {201, 204, 412}, headers=headers, again=False)
            except TransientError as failure:
                tries.wait_or_raise(failure)
            else:
                return answer.status != 412
            if self.size(stage) is None:
                return True  # only the answer was lost

    def _collection(self, key: str) -> None:
        """Make the collection that ``key`` is to lie in, and those above it, as far as they are lacking."""
        self._make(key.rpartition("/")[0])

    def _make(self, path: str) -> None:
        with self._lock:
            if path in self._made:
                return
        status = self._mkcol(path)
        if status == HTTPStatus.CONFLICT and path:  # what it would lie in is not there
            self._make(path.rpartition("/")[0])
            status = self._mkcol(path)
        if status == HTTPStatus.CONFLICT:
            raise RegistryError(
                "registry-failed",
                f"there is no place for {shown(self._url)}",
                cause="the server says that what it should lie in is not there (HTTP 409)",
                hint="make the collection above it first, or correct the address",
            )
        with self._lock:
            self._made.add(path)

    def _mkcol(self, path: str) -> int:
        """Make one collection; the status, which is 405 where there is one."""
        url = self._at(f"{path}/" if path else "")
        try:
            return self._exchange("MKCOL", url, {200, 201, 405, 409}).status
        except LoginNeededError:
            own, _ = self._listing(f"{path}/", depth=0)  # Apache says 403 to one of two who make it at once
            if own is None or not own.collection:
                raise
            return HTTPStatus.METHOD_NOT_ALLOWED

    def _listing(self, path: str, depth: int = 1) -> tuple[Entry | None, Sequence[Entry]]:
        """``path`` and what it holds; nothing where it is not there."""
        url = self._at(f"{path}/" if depth and path else path.lstrip("/"))
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        try:
            answer = self._exchange("PROPFIND", url, {207}, headers=headers, body=PROPFIND, limit=limits.INDEX_BYTES)
        except NotFoundError:
            return None, []
        return read_listing(answer.data, url)

    def _at(self, path: str) -> str:
        return f"{self._url}/{quote(path)}"

    def _exchange(
        self,
        method: str,
        url: str,
        good: set[int],
        *,
        headers: dict[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        limit: int = limits.RECORD_BYTES,
        again: bool = True,
    ) -> Answer:
        answer = self._client.exchange(
            method, url, good=good | _REFUSALS, headers=headers, body=body, limit=limit, again=again
        )
        if answer.status in good:
            return answer
        raise RegistryError(
            "registry-failed",
            f"{urlsplit(self._url).netloc} refused a request",
            cause=f"{method} {urlsplit(url).path}: HTTP {answer.status}{_MEANING.get(answer.status, '')}",
            hint="it lacks a method that publishing needs (PUT, MOVE, MKCOL, PROPFIND): ask who runs it"
            if answer.status in _LACKING
            else "ask who runs it; what is published is as before",
            status=answer.status,
        )


_MEANING: Final = {
    413: " (it takes no files of this size)",
    423: " (somebody holds a WebDAV lock there)",
    502: " (it takes the destination for another server: a proxy before it must pass on Host and scheme)",
    507: " (it has no space left)",
}


@contextmanager
def _missing(key: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(key) from error
