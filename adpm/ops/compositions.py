"""Whether the compositions of a lock can act, as far as names, methods and heads tell: before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adpm.core.lock import Lock, LockedPackage
from adpm.core.mixing import Member, check_mixing
from adpm.core.release import Card
from adpm.core.workspace import file_of
from adpm.errors import CompositionError

__all__ = ["check_mixtures", "check_names"]

_HEAD = "model_head.safetensors"


def check_names(lock: Lock) -> None:
    """Raise ``CompositionError`` (``composition-unknown-name``) for a name that is not locked."""
    for where, part in _parts(lock):
        for name, composition in part.compose.items():
            unknown = part.unknown(composition)
            if unknown is not None:
                known = [name for base in part.bases or (None,) for name, _ in part.names(base)]
                several = len(part.bases) > 1
                apart = f"; only adapters for one base can act together: {', '.join(part.bases)}" if several else ""
                raise CompositionError(
                    "composition-unknown-name",
                    f"{where}compose.{name} uses {unknown!r}, which is not locked{' for that base' if several else ''}",
                    cause=f"{name}: {composition}",
                    hint=f"names that can be used: {', '.join(dict.fromkeys(known)) or 'none'}{apart}",
                )


def check_mixtures(lock: Lock, cards: Mapping[str, Card]) -> None:
    """Raise ``CompositionError`` for adapters that can't act together; ``cards`` by key. See ``core.mixing``."""
    for where, part in _parts(lock):
        for name, composition in part.compose.items():
            for base in part.bases_of(composition):
                packages = dict(part.names(base))
                members = {inner: _member(package, cards[package.key]) for inner, package in packages.items()}
                check_mixing(composition, members.__getitem__, what=f"{where}compose.{name}")


def _parts(lock: Lock) -> Iterator[tuple[str, Lock]]:
    """The parts of a workspace's lock with the words that name them; a lock that is none's, with none."""
    for member, part in lock.parts():
        yield (f"{file_of(member)}: " if lock.members else ""), part


def _member(package: LockedPackage, card: Card) -> Member:
    head = next((str(file.blob.digest) for file in package.files if file.path == _HEAD), None)
    return Member(card.method.kind, head)
