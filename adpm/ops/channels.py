"""A registry's channels: what one means for a project, and all that a package has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from adpm.core.names import Channel, Digest, PackageName
from adpm.core.release import Listing
from adpm.errors import NotFoundError
from adpm.registry.port import Registry, channel_yanked

__all__ = ["Meaning", "channels", "release_of"]


class Meaning(NamedTuple):
    """A channel, the release that it means, and how the registry lists that; None: it does not."""

    channel: Channel
    release: Digest
    listing: Listing | None


def release_of(registry: Registry, name: PackageName, channel: Channel, listings: Sequence[Listing]) -> Listing:
    """The release that a channel means now, among ``listings``, which are all that ``registry`` has of the package.

    Raises ``NotFoundError`` (``channel-not-found``, ``channel-dangling``), ``RegistryError`` (``channel-yanked``,
    ``channels-unsupported``).
    """
    digest = registry.channel(name, channel)
    if digest is None:
        raise _not_found(registry, name, channel)
    target = _listed(digest, listings)
    if target is None:
        raise NotFoundError(
            "channel-dangling",
            f"{name}@{channel} means a release that {registry} does not list",
            cause=f"it means {digest}",
            hint=f"let it mean one that is there: 'adpm channel set {name} {channel} VERSION "
            f"--registry {registry.name}'",
        )
    if target.yanked is not None:
        raise channel_yanked(registry, channel, target)
    return target


def channels(registry: Registry, name: PackageName) -> list[Meaning] | None:
    """All channels of a package by name; None where they can't be listed. Raises ``NotFoundError``
    (``package-not-found``)."""
    listings, found = registry.versions(name), registry.channels(name)
    if found is None:
        return None
    return [Meaning(channel, digest, _listed(digest, listings)) for channel, digest in sorted(found.items())]


def _listed(digest: Digest, listings: Sequence[Listing]) -> Listing | None:
    return next((listing for listing in listings if listing.manifest.digest == digest), None)


def _not_found(registry: Registry, name: PackageName, channel: Channel) -> NotFoundError:
    known = registry.channels(name)
    close = difflib.get_close_matches(channel, known or (), n=1)
    if close:
        hint = f"did you mean {name}@{close[0]}?"
    elif known:
        hint = f"its channels are: {', '.join(sorted(known))}"
    else:
        hint = f"'adpm channel set {name} {channel} VERSION --registry {registry.name}' makes one"
    return NotFoundError("channel-not-found", f"{name} has no channel {channel} in {registry}", hint=hint)
