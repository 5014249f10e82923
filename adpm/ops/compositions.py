"""Whether the compositions of a lock can act, as far as names, methods and heads tell: before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from adpm.core.lock import Lock, LockedPackage
from adpm.core.mixing import Member, check_mixing
from adpm.core.release import Card
from adpm.errors import CompositionError

__all__ = ["check_mixtures", "check_names"]

_HEAD = "model_head.safetensors"


def check_names(lock: Lock) -> None:
    """Raise ``CompositionError`` (``composition-unknown-name``) for a name that is not locked."""
    for name, composition in lock.compose.items():
        unknown = lock.unknown(composition)
        if unknown is not None:
            known = [name for base in lock.bases or (None,) for name, _ in lock.names(base)]
            apart = f"; only adapters for one base can act together: {', '.join(lock.bases)}" if lock.bases else ""
            raise CompositionError(
                "composition-unknown-name",
                f"compose.{name} uses {unknown!r}, which is not locked{' for that base' if lock.bases else ''}",
                cause=f"{name}: {composition}",
                hint=f"names that can be used: {', '.join(dict.fromkeys(known)) or 'none'}{apart}",
            )


def check_mixtures(lock: Lock, cards: Mapping[str, Card]) -> None:
    """Raise ``CompositionError`` for adapters that can't act together; ``cards`` by key. See ``core.mixing``."""
    for name, composition in lock.compose.items():
        for base in lock.bases_of(composition):
            packages = dict(lock.names(base))
            members = {inner: _member(package, cards[package.key]) for inner, package in packages.items()}
            check_mixing(composition, members.__getitem__, what=f"compose.{name}")


def _member(package: LockedPackage, card: Card) -> Member:
    head = next((str(file.blob.digest) for file in package.files if file.path == _HEAD), None)
    return Member(card.method.kind, head)
