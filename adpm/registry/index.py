"""Deriving a package's index from its commit points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from adpm import limits
from adpm.core.names import PackageName
from adpm.core.release import Listing
from adpm.errors import DocumentError, RegistryError
from adpm.formats.oci import read_index, write_index
from adpm.registry.place import Content, WritablePlace
from adpm.registry.records import Claim, claims, package_path, read_yank_record, record_path

__all__ = ["update_index"]


def update_index(
    place: WritablePlace, name: PackageName, listing_of: Callable[[Claim], Listing], *, afresh: bool = False
) -> tuple[Listing, ...]:
    """Make the index list exactly the committed releases and their yanks; what it lists then.

    ``listing_of`` reads a release that the index lacks. Entries that are there are kept as they are, unless
    ``afresh``. Writers that meet repeat each other's work until all is in. Raises ``RegistryError``
    (``index-contended``) after ``limits.INDEX_TRIES`` lost races.
    """
    path = package_path(name, "index.json")
    for _ in range(limits.INDEX_TRIES):
        before = _read(place, path)
        known = {} if afresh or before is None else _known(before, name)
        listings = _derived(place, name, known, listing_of)
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


def _known(content: Content, name: PackageName) -> dict[Claim, Listing]:
    """What the index lists; nothing if it is damaged: it is derived, and is derived anew."""
    try:
        listings = read_index(content.data, name, f"the index of {name}")
    except DocumentError:
        return {}
    return {(listing.version, listing.manifest.digest): listing for listing in listings}


def _derived(
    place: WritablePlace, name: PackageName, known: dict[Claim, Listing], listing_of: Callable[[Claim], Listing]
) -> tuple[Listing, ...]:
    yanked = set(claims(place.list(package_path(name, "yanks/"))))
    out = []
    for claim in sorted(claims(place.list(package_path(name, "releases/")))):
        listing = known[claim] if claim in known else listing_of(claim)
        if claim in yanked and listing.yanked is None:
            content = place.read(record_path("yanks", name, claim), limits.RECORD_BYTES)
            listing = replace(listing, yanked=read_yank_record(content.data, f"the yank of {name} {claim[0]}"))
        elif claim not in yanked and listing.yanked is not None:
            listing = replace(listing, yanked=None)
        out.append(listing)
    return tuple(out)
