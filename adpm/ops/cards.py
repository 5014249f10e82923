"""The cards of locked packages, and their small files: from the store, and what is not there from the registries.

Never any weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adpm import limits
from adpm.core.lock import LockedPackage
from adpm.core.release import Blob, Card
from adpm.errors import NetworkError, NotFoundError
from adpm.formats.card import read_card
from adpm.registry.chain import Chain
from adpm.store.parallel import in_parallel
from adpm.store.store import Batch, Store

__all__ = ["bring", "card_at_hand", "cards"]


def cards(packages: Iterable[LockedPackage], store: Store, chain: Callable[[], Chain] | None) -> dict[str, Card]:
    """The card of each package by its key; those that had to be fetched, all at once, are in the store then.

    Without a ``chain``, one that is missing is ``NetworkError`` (``offline``).
    """
    packages = list(packages)
    bring([(package, "card", package.card) for package in packages], store, chain)
    return {package.key: _card(package, store) for package in packages}


def card_at_hand(package: LockedPackage, store: Store) -> Card | None:
    """The card of a package, if the store has it."""
    return _card(package, store) if store.has(package.card) else None


def bring(wanted: Iterable[tuple[LockedPackage, str, Blob]], store: Store, chain: Callable[[], Chain] | None) -> None:
    """See that the store has what is ``wanted``: of a package a document of at most ``CARD_BYTES``, and what it is.

    Errors as of ``cards``.
    """
    missing = [entry for entry in wanted if not store.has(entry[2])]
    if missing and chain is None:
        raise NetworkError(
            "offline",
            f"{len(missing)} cards and configs of packages are not in the store",
            cause=", ".join(f"{package.name} {package.version}: {what}" for package, what, _ in missing[:20]),
            hint="run the command once without --offline",
        )
    if missing and chain is not None:
        registries = chain()
        with store.batch() as batch:
            in_parallel(lambda entry: _fetch(*entry, registries, batch), missing, threads=limits.CONNECTIONS)


def _fetch(package: LockedPackage, what: str, blob: Blob, chain: Chain, batch: Batch) -> None:
    if package.registry is None:
        raise NotFoundError(
            "object-missing",
            f"{what} of {package.name} {package.version} is not in the store",
            cause=f"it is from {package.source}, which is read as a whole",
            hint="run 'adpm install'",
        )
    batch.put([chain.registry(package.registry).card(package.name, blob)], blob)


def _card(package: LockedPackage, store: Store) -> Card:
    return read_card(bytes(store.map(package.card)), f"the card of {package.name} {package.version}")
