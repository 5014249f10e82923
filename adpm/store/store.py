"""The interface of the store: one class over the verbs, which are modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

from adpm.core.names import Digest
from adpm.core.release import Blob
from adpm.store.collect import Collected, collect
from adpm.store.get import has, map_object
from adpm.store.home import home
from adpm.store.layout import object_path
from adpm.store.link import Linker
from adpm.store.projects import register
from adpm.store.put import Batch
from adpm.store.session import session
from adpm.store.verify import Verified, verify_all

__all__ = ["Batch", "Collected", "Store", "Verified"]


class Store:
    """The store in the directory ``root``, which is made when something is written. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._linker = Linker(self.root)

    @classmethod
    def default(cls) -> Self:
        """The store at ``$ADPM_HOME``; where that is not set or empty, in the platform's cache directory."""
        return cls(Path(home()))

    def path(self, digest: Digest) -> Path:
        """Where an object of this digest lies, or would lie."""
        return Path(object_path(self.root, digest))

    def has(self, blob: Blob) -> bool:
        """Whether it is there with the right size; see ``get.has``."""
        return has(self.root, blob)

    def map(self, blob: Blob) -> memoryview:
        """Its verified bytes; see ``get.map_object``."""
        return map_object(self.root, blob)

    def put(self, chunks: Iterable[bytes], expected: Blob | None = None) -> Blob:
        """Store one blob durably; see ``put.Batch.put``. For more than one, use a batch."""
        with self.batch() as batch:
            return batch.put(chunks, expected)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """A session in which blobs are put and become durable together, at its end at the latest."""
        with session(self.root), Batch(self.root) as batch:
            yield batch

    def session(self) -> AbstractContextManager[None]:
        """While it lasts nothing is collected: hold it from asking what is there until the lock is registered."""
        return session(self.root)

    def link_out(self, blob: Blob, target: Path | str) -> str:
        """Make ``target`` a file with its bytes; see ``link.Linker.link_out``."""
        return self._linker.link_out(blob, target)

    def register_project(self, lock: Path) -> None:
        """Keep what the lock at ``lock`` names, as long as that file exists."""
        with session(self.root):
            register(self.root, lock)

    def verify_all(self, workers: int) -> Verified:
        """Hash every object; see ``verify.verify_all``."""
        with session(self.root):
            return verify_all(self.root, workers)

    def collect(self, marks: Callable[[Path], Iterable[Digest]], *, dry_run: bool = False) -> Collected:
        """Remove what no known project needs; see ``collect.collect``."""
        return collect(self.root, marks, dry_run=dry_run)
