"""What is attached to a manifest of an OCI registry: by the referrers API, or by a tag where there is none.

After the OCI distribution specification 1.1, "Listing Referrers" and "Pushing Manifests with Subject".
"""

from __future__ import annotations

from typing import Final

from adpm.core.names import Digest
from adpm.core.release import Attachment
from adpm.errors import NotFoundError, RegistryError
from adpm.formats.attachment import read_referrers, with_referrer
from adpm.formats.oci import INDEX_TYPE, MANIFEST_TYPE
from adpm.net.faults import TransientError
from adpm.registry.distribution import Distribution

__all__ = ["add_referrer", "lists_referrers", "referrers"]

_LISTED: Final = "oci-subject"  # in the answer of a registry that has the API


def referrers(registry: Distribution, repository: str, subject: Digest) -> tuple[Attachment, ...]:
    """What is attached to ``subject``, each once, in the order in which the registry lists it."""
    found: dict[Digest, Attachment] = {}
    for data in _pages(registry, repository, subject):
        for entry in read_referrers(data, _source(repository, subject)):
            found.setdefault(entry.manifest.digest, entry)
    return tuple(found.values())


def lists_referrers(registry: Distribution, repository: str) -> bool:
    """Whether the registry has the API, tried on a repository that is there."""
    try:
        registry.exchange("GET", registry.at(repository, f"referrers/{Digest.of(b'')}"), good={200})
    except (NotFoundError, RegistryError):
        return False
    return True


def add_referrer(registry: Distribution, repository: str, subject: Digest, manifest: bytes) -> None:
    """Push the manifest of an attachment, whose blobs are there, so that ``referrers`` lists it.

    The tag that stands in for the API is one document that all rewrite, without conditions: so it is read again after
    writing, and written again where another writer was in between. Raises ``RegistryError`` (``attachment-unlisted``)
    where that does not end.
    """
    headers = registry.put_manifest(repository, Digest.of(manifest), manifest, MANIFEST_TYPE)
    if _LISTED in headers:
        return
    tag, tries = _tag(subject), registry.client.tries()
    while True:
        before = registry.manifest(repository, tag)
        after = with_referrer(before, manifest, _source(repository, subject))
        if after == before:
            return
        registry.put_manifest(repository, tag, after, INDEX_TYPE)
        if registry.manifest(repository, tag) == after:
            return
        tries.wait_or_raise(
            TransientError(
                RegistryError(
                    "attachment-unlisted",
                    f"the attachment is in {repository}, but others change the list of attachments all the time",
                    cause=f"the registry knows no referrers, and the tag {tag} was overwritten each time",
                    hint="run the command again",
                )
            )
        )


def _pages(registry: Distribution, repository: str, subject: Digest) -> list[bytes]:
    try:
        return list(registry.pages(registry.at(repository, f"referrers/{subject}"), accept=INDEX_TYPE))
    except (NotFoundError, RegistryError):  # registries without the API answer 404, some 405
        data = registry.manifest(repository, _tag(subject))
        return [] if data is None else [data]


def _tag(subject: Digest) -> str:
    return f"sha256-{subject.hex}"


def _source(repository: str, subject: Digest) -> str:
    return f"the list of what is attached to {repository}@{subject.short}"
