"""Events to the terminal: a progress bar where there is one, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from adpm.cli.output import Output, count_text, size_text
from adpm.core.events import Changed, Event, Fetched, Fetching, Note, Repaired

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Narrator"]


class Narrator:
    """The listener of the command line, and a context: the progress bar is gone when it ends."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Changed(package, before, after):
                self.output.say(change_text(event), style="green" if before is None else "yellow" if after else "red")
            case Fetching(files, size):
                self._begin(files, size)
            case Fetched(size, package, path):
                self._advance(size, f"{package}: {path}" if path else None)
            case Repaired(digest):
                self.output.say(f"! {digest.short} was damaged in the store and is fetched again", style="yellow")
            case Note(text):
                self.output.say(text)

    def _begin(self, files: int, size: int) -> None:
        if self.output.quiet:
            return
        if not sys.stderr.isatty():
            self.output.say(f"fetching {count_text(files, 'file')}, {size_text(size)}")
            return
        from rich.console import Console  # noqa: PLC0415 - only a download on a terminal pays for rich
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress("fetching", *columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("fetching", total=size)
        self._bar.start()

    def _advance(self, size: int, done: str | None) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=size)
        elif done is not None:
            self.output.detail(f"fetched {done}")


def change_text(change: Changed) -> str:
    """``+ name 1.2.0``, ``- name 1.1.0`` or ``~ name 1.1.0 -> 1.2.0``."""
    if change.before is None:
        return f"+ {change.package} {change.after}"
    if change.after is None:
        return f"- {change.package} {change.before}"
    return f"~ {change.package} {change.before} -> {change.after}"
