"""Whether the compositions of a lock can act, as far as names, methods and heads tell: before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adpm import limits
from adpm.core.composition import blocks
from adpm.core.lock import Lock, LockedPackage
from adpm.core.mixing import Member, check_fusions, check_mixing
from adpm.core.release import Blob, Card
from adpm.core.workspace import file_of
from adpm.errors import CompositionError
from adpm.formats.adapterhub_fusion import ADAPTER_CONFIG, FUSION_CONFIG, told_names
from adpm.ops.cards import bring, cards
from adpm.registry.chain import Chain
from adpm.store.store import Store

__all__ = ["check_mixtures", "check_names"]

_DOCUMENTS = (ADAPTER_CONFIG, FUSION_CONFIG)
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


def check_mixtures(lock: Lock, store: Store, chain: Callable[[], Chain] | None) -> None:
    """Raise ``CompositionError`` for adapters that can't act together. See ``core.mixing``.

    Cards, and what configs say of fusions where something is fused, are fetched through ``chain`` if the store lacks
    them.
    """
    found = cards(lock.packages.values(), store, chain)
    told = _Told(lock, store, chain)
    for where, part in _parts(lock):
        for name, composition in part.compose.items():
            for base in part.bases_of(composition):
                packages = dict(part.names(base))
                members = {inner: told.member(package, found[package.key]) for inner, package in packages.items()}
                check_mixing(composition, members.__getitem__, what=f"{where}compose.{name}")
                check_fusions(composition, members.__getitem__, members, what=f"{where}compose.{name}")


class _Told:
    """What the packages of a lock tell of themselves besides their cards."""

    def __init__(self, lock: Lock, store: Store, chain: Callable[[], Chain] | None) -> None:
        fuses = any(block.kind == "fuse" for composition in lock.compose.values() for block in blocks(composition))
        self.store = store
        self.files = {p.key: {f.path: f.blob for f in p.files} for p in lock.packages.values()}
        self.fuses = fuses and any(FUSION_CONFIG in files for files in self.files.values())
        if self.fuses:
            wanted = [
                (package, path, blob)
                for package in lock.packages.values()
                for path in _DOCUMENTS
                if (blob := self._small(package, path)) is not None
            ]
            bring(wanted, store, chain)

    def member(self, package: LockedPackage, card: Card) -> Member:
        head = self.files[package.key].get(_HEAD)
        files = {path: data for path in _DOCUMENTS if (data := self._read(package, path)) is not None}
        name, fusion = told_names(files, source=f"{package.name} {package.version}")
        return Member(card.method, None if head is None else str(head.digest), name, fusion)

    def _small(self, package: LockedPackage, path: str) -> Blob | None:
        blob = self.files[package.key].get(path)
        return blob if blob is not None and blob.size <= limits.CARD_BYTES else None

    def _read(self, package: LockedPackage, path: str) -> bytes | None:
        blob = self._small(package, path) if self.fuses else None
        return None if blob is None else bytes(self.store.map(blob))


def _parts(lock: Lock) -> Iterator[tuple[str, Lock]]:
    """The parts of a workspace's lock with the words that name them; a lock that is none's, with none."""
    for member, part in lock.parts():
        yield (f"{file_of(member)}: " if lock.members else ""), part
