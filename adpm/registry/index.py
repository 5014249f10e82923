"""A package's index: changed by what a writer has just committed, or derived from all commit points."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from adpm import limits
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import DocumentError, RegistryError
from adpm.formats.oci import read_index, write_index
from adpm.registry.place import Content, WritablePlace
from adpm.registry.records import Claim, claims, package_path, read_yank_record, record_path

__all__ = ["derive_index", "extend_index"]

_ListingOf = Callable[[Claim], Listing]
"""Reads a committed release from its own documents; ``FileNotFoundError`` where it is not committed."""


def extend_index(
    place: WritablePlace, name: PackageName, changed: Iterable[Claim], listing_of: _ListingOf
) -> tuple[Listing, ...]:
    """Make the index say what is true of the releases ``changed``, and what it said of all others; what it lists then.

    Cost: two documents, and two for each release changed, however many there are. Only where the place does not
    swap, or there is no index that can be read, all is derived, as ``derive_index`` does it. Raises ``RegistryError``
    (``index-contended``) after ``limits.INDEX_TRIES`` lost races.
    """
    changes = list(changed)

    def after(known: dict[Claim, Listing] | None) -> tuple[Listing, ...]:
        if known is None or not place.swaps:
            return _derived(place, name, known or {}, listing_of)
        return _changed(place, name, known, changes, listing_of)

    return _replaced(place, name, after)


def derive_index(place: WritablePlace, name: PackageName, listing_of: _ListingOf) -> tuple[Listing, ...]:
    """Make the index list exactly the committed releases and their yanks, from their documents; see above.

    Cost: three documents a release.
    """
    return _replaced(place, name, lambda _: _derived(place, name, {}, listing_of))


def _replaced(
    place: WritablePlace, name: PackageName, after: Callable[[dict[Claim, Listing] | None], tuple[Listing, ...]]
) -> tuple[Listing, ...]:
    """Replace the index by what comes ``after`` what it lists (None: it can't be read). Writers that meet repeat it."""
    path = package_path(name, "index.json")
    for lost in range(limits.INDEX_TRIES):
        if lost and not place.locks:  # others are at it: not all again at once, and fewer at a time the more they are
            most = min(limits.RACE_PAUSE_MAX_SECONDS, limits.RACE_PAUSE_SECONDS * 2 ** min(lost - 1, 10))
            time.sleep(random.uniform(0, most))  # noqa: S311 - spreads writers, no secret
        before = _read(place, path)
        listings = after(None if before is None else _known(before, name))
        data = write_index(listings)
        if before is not None and before.data == data:
            return listings
        if place.replace(path, data, None if before is None else before.token):
            return listings
    raise RegistryError(
        "index-contended",
        f"the index of {name} could not be written",
        cause=f"other publishers were faster {limits.INDEX_TRIES} times",
        hint="run the same command again",
    )


def _read(place: WritablePlace, path: str) -> Content | None:
    try:
        return place.read(path, limits.INDEX_BYTES)
    except FileNotFoundError:
        return None


def _known(content: Content, name: PackageName) -> dict[Claim, Listing] | None:
    """What the index lists; None if it is damaged: it is derived, and is derived anew."""
    try:
        listings = read_index(content.data, name, f"the index of {name}")
    except DocumentError:
        return None
    return {(listing.version, listing.manifest.digest): listing for listing in listings}


def _changed(
    place: WritablePlace, name: PackageName, known: dict[Claim, Listing], changes: list[Claim], listing_of: _ListingOf
) -> tuple[Listing, ...]:
    out = dict(known)
    for claim in changes:
        try:
            listing = out[claim] if claim in out else listing_of(claim)
        except FileNotFoundError:
            continue  # its writer stopped before it was committed
        out[claim] = replace(listing, yanked=_yanked(place, name, claim))
    return tuple(out[claim] for claim in sorted(out))


def _yanked(place: WritablePlace, name: PackageName, claim: Claim) -> str | None:
    try:
        content = place.read(record_path("yanks", name, claim), limits.RECORD_BYTES)
    except FileNotFoundError:
        return None
    return read_yank_record(content.data, f"the yank of {name} {claim[0]}")


def _derived(
    place: WritablePlace, name: PackageName, known: dict[Claim, Listing], listing_of: _ListingOf
) -> tuple[Listing, ...]:
    yanked = set(claims(place.list(package_path(name, "yanks/"))))
    out = []
    for claim in sorted(claims(place.list(package_path(name, "releases/")))):
        listing = known[claim] if claim in known else listing_of(claim)
        if claim in yanked and listing.yanked is None:
            listing = replace(listing, yanked=_yanked(place, name, claim))
        elif claim not in yanked and listing.yanked is not None:
            listing = replace(listing, yanked=None)
        out.append(listing)
    return tuple(out)
