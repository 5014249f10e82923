"""The cards of locked packages: from the store, and what is not there from the registries. Never any weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from adpm import limits
from adpm.core.lock import LockedPackage
from adpm.core.release import Card
from adpm.errors import NetworkError, NotFoundError
from adpm.formats.card import read_card
from adpm.registry.chain import Chain
from adpm.store.parallel import in_parallel
from adpm.store.store import Batch, Store

__all__ = ["cards"]


def cards(packages: Iterable[LockedPackage], store: Store, chain: Callable[[], Chain] | None) -> dict[str, Card]:
    """The card of each package by its key; those that had to be fetched, all at once, are in the store then.

    Without a ``chain``, one that is missing is ``NetworkError`` (``offline``).
    """
    packages = list(packages)
    missing = [package for package in packages if not store.has(package.card)]
    if missing and chain is None:
        raise NetworkError(
            "offline",
            f"the cards of {len(missing)} packages are not in the store",
            cause=", ".join(f"{package.name} {package.version}" for package in missing[:20]),
            hint="run the command once without --offline",
        )
    if missing and chain is not None:
        registries = chain()
        with store.batch() as batch:
            in_parallel(lambda package: _fetch(package, registries, batch), missing, threads=limits.CONNECTIONS)
    return {package.key: _card(package, store) for package in packages}


def _fetch(package: LockedPackage, chain: Chain, batch: Batch) -> None:
    if package.registry is None:
        raise NotFoundError(
            "object-missing",
            f"the card of {package.name} {package.version} is not in the store",
            cause=f"it is from {package.source}, which is read as a whole",
            hint="run 'adpm install'",
        )
    batch.put(_chunks(package, package.registry, chain), package.card)


def _chunks(package: LockedPackage, registry: str, chain: Chain) -> Iterator[bytes]:
    yield chain.registry(registry).card(package.name, package.card)


def _card(package: LockedPackage, store: Store) -> Card:
    return read_card(bytes(store.map(package.card)), f"the card of {package.name} {package.version}")
