"""Bars on a terminal: one for a whole download, one for each large file that is under way."""

from __future__ import annotations

from threading import Lock

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from adpm import limits
from adpm.core.events import Fetched
from adpm.core.names import PackageName

__all__ = ["Bars"]


class Bars:
    """A download of ``size`` bytes. Threads may advance it at once; ``stop`` takes it off the terminal."""

    def __init__(self, size: int, *, colored: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, no_color=not colored),
            transient=True,
        )
        self._total = self._progress.add_task("fetching", total=size)
        self._files: dict[tuple[PackageName, str], TaskID] = {}
        self._lock = Lock()
        self._progress.start()

    def advance(self, event: Fetched) -> None:
        self._progress.update(self._total, advance=event.size)
        if event.of <= limits.SMALL_BYTES:
            return
        with self._lock:
            task = self._task_of(event)
            if event.done:
                self._progress.remove_task(task)
            else:
                self._progress.update(task, advance=event.size)

    def stop(self) -> None:
        self._progress.stop()

    def _task_of(self, event: Fetched) -> TaskID:
        """The bar of a file; one that is done loses it."""
        key = event.package, event.path
        if event.done and key in self._files:
            return self._files.pop(key)
        if key not in self._files:
            self._files[key] = self._progress.add_task(f"{event.package}: {event.path}", total=event.of)
        return self._files[key]
