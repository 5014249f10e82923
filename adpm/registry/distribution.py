"""The HTTP API of OCI registries, after the OCI distribution specification 1.1."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

from adpm import limits
from adpm.core.moment import moment_text
from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.errors import AdpmError, DocumentError, Fault, NotFoundError, RegistryError
from adpm.formats.json import open_json
from adpm.formats.oci import INDEX_TYPE, MANIFEST_TYPE
from adpm.formats.reader import Node, list_of
from adpm.net.client import Answer, Client, Document
from adpm.net.faults import TransientError
from adpm.net.url import origin
from adpm.registry.place import Ability
from adpm.registry.reach import way_to

__all__ = ["Distribution"]

# Docker's own are asked for as well, so that a tag that holds an image is not taken for a free one.
_ANY_MANIFEST: Final = ", ".join(
    [
        MANIFEST_TYPE,
        INDEX_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
)
_NEXT: Final = re.compile(r'<([^>]*)>\s*;\s*rel\s*=\s*"?next\b')
_RACED: Final = "DIGEST_INVALID"  # docker-registry, where two write the same manifest at once; we name the right digest
_ENTRIES: Final = 4 * limits.INDEX_RELEASES  # of a page: some registries know no pages


class Distribution:
    """One registry at ``root`` (scheme, host, port). Methods raise the errors of ``Client``, and ``RegistryError``
    (``registry-failed``) with what the registry says where it refuses a request."""

    def __init__(self, root: str, client: Client) -> None:
        self._root = root
        self.client = client

    def is_there(self) -> bool:
        """Whether the API is there at all; one that first wants a login is."""
        try:
            self.exchange("GET", f"{self._root}/v2/", good={200, 401, 403})
        except NotFoundError:
            return False
        return True

    def log_in(self) -> None:
        """Ask for the API as who we are; raises ``LoginNeededError`` where that is not enough."""
        self.exchange("GET", f"{self._root}/v2/", good={200})

    def check(self) -> Iterator[Ability]:
        """What can be told without writing: see ``Place.check``."""
        yield from way_to(f"{self._root}/v2/", self.client)
        self.log_in()
        yield Ability("reads", True, "the OCI distribution API")

    def try_upload(self, repository: str) -> None:
        """Begin an upload, and cancel it."""
        url = self.at(repository, "blobs/uploads/")
        answer = self.exchange("POST", url, good={201, 202}, body=b"")
        with suppress(AdpmError):  # the registry drops it sometime anyway
            self.exchange("DELETE", self.location(answer, url), good={200, 202, 204})

    def repositories(self) -> Iterator[str]:
        """The names of all repositories. Raises ``NotFoundError`` where the registry does not tell."""
        return self._listed(f"{self._root}/v2/_catalog?n=1000", "repositories")

    def tags(self, repository: str) -> list[str] | None:
        """All tags; None where there is no such repository."""
        try:
            return list(self._listed(self.at(repository, "tags/list?n=1000"), "tags"))
        except NotFoundError:
            return None

    def manifest(self, repository: str, reference: str) -> bytes | None:
        """The bytes of a manifest or index by tag, unverified; None where there is none."""
        found = self.manifest_and_time(repository, reference)
        return None if found is None else found[0]

    def manifest_and_time(self, repository: str, reference: str) -> tuple[bytes, str | None] | None:
        """What ``manifest`` gives, with when the registry took it, where it says so (``Last-Modified``)."""
        try:
            url = self.at(repository, f"manifests/{reference}")
            limit = limits.OCI_MANIFEST_BYTES
            answer = self.exchange("GET", url, good={200}, headers={"Accept": _ANY_MANIFEST}, limit=limit)
        except NotFoundError:
            return None
        return answer.data, _moment(answer.headers.get("last-modified", ""))

    def changed(self, repository: str, reference: str, known: Document | None) -> Document | None:
        """What ``manifest`` gives, with its ETag; ``known`` itself if the registry says that it is still that."""
        url = self.at(repository, f"manifests/{reference}")
        headers = {"Accept": _ANY_MANIFEST}
        if known is not None and known.etag is not None:
            headers["If-None-Match"] = known.etag
        try:
            answer = self.exchange("GET", url, good={200, 304}, headers=headers, limit=limits.OCI_MANIFEST_BYTES)
        except NotFoundError:
            return None
        return known if answer.status == 304 else Document(answer.data, answer.headers.get("etag"))

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Mapping[str, str]:
        """Store a manifest or index under a digest or a tag, in place of what is there; the answer's headers."""
        url = self.at(repository, f"manifests/{reference}")
        tries = self.client.tries()
        while True:
            try:
                headers = {"Content-Type": media_type}
                return self.exchange("PUT", url, good={200, 201, 202}, headers=headers, body=data).headers
            except RegistryError as error:
                if _RACED not in (error.cause or ""):
                    raise
                tries.wait_or_raise(TransientError(error))

    def manifest_chunks(self, repository: str, blob: Blob) -> Generator[bytes]:
        with _missing(blob):
            url = self.at(repository, f"manifests/{blob.digest}")
            yield from self.client.stream(url, size=blob.size, accept=MANIFEST_TYPE)

    def blob_chunks(self, repository: str, blob: Blob, start: int = 0, stop: int | None = None) -> Generator[bytes]:
        """See ``Registry.part``."""
        with _missing(blob):
            url = self.at(repository, f"blobs/{blob.digest}")
            yield from self.client.stream(url, size=blob.size, offset=start, stop=stop)

    def has_blob(self, repository: str, digest: Digest) -> bool:
        try:
            self.exchange("HEAD", self.at(repository, f"blobs/{digest}"), good={200})
        except NotFoundError:
            return False
        return True

    def at(self, repository: str, rest: str) -> str:
        return f"{self._root}/v2/{repository}/{rest}"

    def location(self, answer: Answer, otherwise: str) -> str:
        """Where an upload goes on."""
        return urljoin(otherwise, answer.headers.get("location", otherwise))

    def exchange(
        self,
        method: str,
        url: str,
        *,
        good: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = limits.RECORD_BYTES,
        again: bool = True,
    ) -> Answer:
        """``Client.exchange``; a refusal for other reasons than credentials is told in the registry's own words."""
        good_or_refused = {*good, *_REFUSALS}
        answer = self.client.exchange(
            method, url, good=good_or_refused, headers=headers, body=body, limit=limit, again=again
        )
        if answer.status in good:
            return answer
        raise RegistryError(
            "registry-failed",
            f"{urlsplit(self._root).netloc} refused a request",
            cause=f"{method} {urlsplit(url).path}: HTTP {answer.status}{_said(answer.data)}",
            hint="it may lack what adpm needs, or have a limit that is reached: ask who runs it",
            status=answer.status,
        )

    def _listed(self, url: str, key: str) -> Iterator[str]:
        """The texts at ``key`` of all pages."""
        for data in self.pages(url):
            yield from _read_list(data, key, f"{urlsplit(url).path} of {urlsplit(url).netloc}")

    def pages(self, url: str, accept: str = "*/*") -> Iterator[bytes]:
        """The documents of a list, which ``Link`` headers join."""
        for _ in range(limits.LIST_PAGES):
            answer = self.exchange("GET", url, good={200}, headers={"Accept": accept}, limit=limits.INDEX_BYTES)
            yield answer.data
            link = _NEXT.search(answer.headers.get("link", ""))
            if link is None:
                return
            url, before = urljoin(url, link[1]), url
            if origin(url) != origin(self._root) or url == before:
                break
        raise DocumentError(
            "registry-invalid", f"{urlsplit(url).path}", [Fault("", "its pages lead elsewhere, or to no end")]
        )


_REFUSALS: Final = frozenset({400, 405, 406, 409, 411, 412, 413, 415, 416, 422, 501})


def _moment(stated: str) -> str | None:
    """A time of HTTP as a moment; None for what is none."""
    try:
        time = parsedate_to_datetime(stated)
    except ValueError:
        return None
    return moment_text(time if time.tzinfo is not None else time.replace(tzinfo=UTC))


def _read_list(data: bytes, key: str, source: str) -> tuple[str, ...]:
    document = open_json(data, source=source, code="registry-invalid", limit=limits.INDEX_BYTES)
    names = document.root.decode(lambda node: node.fields().get(key, list_of(_text, most=_ENTRIES)))  # null: none
    document.finish(hint="check the address of the registry")
    return names or ()


def _text(node: Node) -> str:
    if not isinstance(node.value, str):
        node.fail("must be a text")
    return node.value


def _said(data: bytes) -> str:
    """What a registry says of an error, shortened: a code and a message."""
    try:
        first = json.loads(data)["errors"][0]
        words = [str(first.get(key, "")) for key in ("code", "message")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return ", " + " ".join(filter(None, words))[:500]


@contextmanager
def _missing(blob: Blob) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(blob.digest) from error
