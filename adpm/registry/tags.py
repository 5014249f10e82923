"""The tags of a package's OCI repository, as ``specs/oci.md`` fixes them.

<version>                    the release, for everybody
_release-<version>-<32 hex>  the commit point of a release: an index that lists it alone
_yank-<version>-<32 hex>     that it is yanked: an index that lists it alone, with the reason
_index                       derived: all releases
<channel>                    the release that a channel means; an empty index once it was removed
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from adpm.core.names import Channel, parse_version
from adpm.core.release import Listing
from adpm.errors import UsageError

__all__ = ["INDEX", "RELEASE", "YANK", "Mark", "Tags", "is_tag", "mark_of", "read_tags", "tag_of"]

INDEX: Final = "_index"
RELEASE: Final = "_release"
YANK: Final = "_yank"
_DIGITS: Final = 32  # of a release's digest: all 64 and a long version would not fit into a tag
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")

Mark = tuple[Version, str]
"""A version, and how the digest of the release that claims it begins."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What a repository's tags say; those of others are left out."""

    versions: frozenset[Version]
    releases: frozenset[Mark]
    yanks: frozenset[Mark]
    index: bool
    channels: frozenset[Channel]  # and tags of others that could be one


def is_tag(text: str) -> bool:
    """Whether an OCI registry takes ``text`` as a tag: ``1!2.0``, a version with an epoch, is none."""
    return _TAG.match(text) is not None


def mark_of(listing: Listing) -> Mark:
    return listing.version, listing.manifest.digest.hex[:_DIGITS]


def tag_of(kind: str, mark: Mark) -> str:
    """``kind`` is ``RELEASE`` or ``YANK``."""
    return f"{kind}-{mark[0]}-{mark[1]}"


def read_tags(tags: Iterable[str]) -> Tags:
    versions: set[Version] = set()
    marks: dict[str, set[Mark]] = {RELEASE: set(), YANK: set()}
    channels: set[Channel] = set()
    index = False
    for tag in tags:
        kind, _, rest = tag.partition("-")
        if tag == INDEX:
            index = True
        elif kind in marks:
            text, _, digits = rest.partition("-")
            version = _version(text)
            if version is not None and re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", digits):
                marks[kind].add((version, digits))
        elif (version := _version(tag)) is not None:
            versions.add(version)
        else:
            with suppress(UsageError):
                channels.add(Channel.parse(tag))
    return Tags(frozenset(versions), frozenset(marks[RELEASE]), frozenset(marks[YANK]), index, frozenset(channels))


def _version(text: str) -> Version | None:
    try:
        return parse_version(text)
    except UsageError:
        return None
