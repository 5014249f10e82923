"""What an index says of a release is a hint; the card decides."""

from __future__ import annotations

from adpm.core.release import Card, Listing
from adpm.errors import IntegrityError
from adpm.formats.base import base_value
from adpm.formats.card import requires_value
from adpm.formats.json import canonical

__all__ = ["confirm"]


def confirm(listing: Listing, card: Card, *, where: str) -> None:
    """Raise ``IntegrityError`` (``index-mismatch``) unless ``card`` says what the index of ``where`` said of it."""
    pairs = {
        "name": (str(listing.name), str(card.name)),
        "version": (str(listing.version), str(card.version)),
        "requires": (canonical(requires_value(listing.requires)), canonical(requires_value(card.requires))),
        "base": (canonical(base_value(listing.base)), canonical(base_value(card.base))),
    }
    if listing.license is not None:  # an index may leave these out
        pairs["license"] = (listing.license, str(card.license))
    if listing.metrics:
        pairs["metrics"] = (_metrics(listing), _metrics(card))
    wrong = [key for key, (said, true) in pairs.items() if said != true]
    if wrong:
        raise IntegrityError(
            "index-mismatch",
            f"the index of {where} does not tell the truth about {listing.name} {listing.version}",
            cause="\n".join(f"{key}: {_of(card, listing, key)}" for key in wrong),
            hint="its owner can rebuild the index from the releases; until then, lock another version or registry",
            package=listing.name,
        )


def _metrics(source: Listing | Card) -> str:
    return ", ".join(f"{m.name} {m.value} on {m.dataset}/{m.split}" for m in source.metrics)


def _of(card: Card, listing: Listing, key: str) -> str:
    if key == "base":
        return listing.base.misfit(card.base) or "is described in other words than in the card"
    if key == "requires":
        said, true = (", ".join(map(str, source.requires)) or "nothing" for source in (listing, card))
    elif key == "metrics":
        said, true = _metrics(listing) or "nothing", _metrics(card) or "nothing"
    else:
        said, true = str(getattr(listing, key)), str(getattr(card, key))
    return f"the index says {said}, the card says {true}"
