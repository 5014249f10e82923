"""Events to the terminal: bars where there is one; elsewhere plain lines, one for each file that took a while."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from adpm import limits
from adpm.cli.output import Output, count_text, size_text
from adpm.core.events import Changed, Event, Fetched, Fetching, Note, Repaired

if TYPE_CHECKING:
    from adpm.cli.bars import Bars

__all__ = ["Narrator"]


class Narrator:
    """The listener of the command line, and a context: the bars are gone when it ends. Threads may call it at once."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Changed(before=before, after=after):
                self.output.say(change_text(event), style="green" if before is None else "yellow" if after else "red")
            case Fetching(files, size):
                self._begin(files, size)
            case Fetched():
                self._advance(event)
            case Repaired(digest):
                self.output.say(f"! {digest.short} was damaged in the store and is fetched again", style="yellow")
            case Note(text):
                self.output.say(text)

    def _begin(self, files: int, size: int) -> None:
        if self.output.quiet:
            return
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            self.output.say(f"fetching {count_text(files, 'file')}, {size_text(size)}")
            return
        from adpm.cli.bars import Bars  # noqa: PLC0415 - only a download on a terminal pays for rich

        self._bars = Bars(size, colored=self.output.colored(sys.stderr))

    def _advance(self, event: Fetched) -> None:
        if self._bars is not None:
            self._bars.advance(event)
        elif event.resumed:
            self.output.say(f"{event.package}: {event.path}: {size_text(event.size)} were here already")
        elif event.done and event.of > limits.SMALL_BYTES:
            self.output.say(f"fetched {event.package}: {event.path}, {size_text(event.of)}")
        elif event.done:
            self.output.detail(f"fetched {event.package}: {event.path}, {size_text(event.of)}")


def change_text(change: Changed) -> str:
    """``+ name 1.2.0``, ``- name 1.1.0`` or ``~ name 1.1.0 -> 1.2.0``."""
    if change.before is None:
        return f"+ {change.package} {change.after}"
    if change.after is None:
        return f"- {change.package} {change.before}"
    return f"~ {change.package} {change.before} -> {change.after}"
