"""The one object that decides what reaches the terminal: data on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

import click

from adpm.errors import AdpmError, UsageError, printable

if TYPE_CHECKING:
    from pathlib import Path

# json, difflib and pathlib together cost a fifth of what `adpm --help` may take: they are imported where they are used.

__all__ = ["Output", "closest", "count_text", "size_text"]

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def size_text(size: float) -> str:
    """``size`` bytes for people, in powers of 1000: ``3.6 MB``."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.5 else f"{size:.1f} {_UNITS[unit]}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The word of ``known`` that ``word`` was probably meant to be."""
    import difflib  # noqa: PLC0415

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def count_text(count: int, noun: str) -> str:
    """``1 package``, ``2 packages``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Output:
    """How this call talks: where it works, how much it says, in which colours."""

    def __init__(
        self, directory: str = ".", *, quiet: bool = False, verbose: bool = False, color: str = "auto"
    ) -> None:
        self._directory = directory
        self.quiet = quiet
        self.verbose = verbose
        self._color = color

    @property
    def directory(self) -> Path:
        """Where the call works."""
        from pathlib import Path  # noqa: PLC0415

        return Path(self._directory)

    @classmethod
    def for_errors(cls, arguments: Sequence[str]) -> Self:
        """For errors that come before the options are parsed: the colour is looked up by hand."""
        color = "auto"
        for i, argument in enumerate(arguments):
            if argument.startswith("--color="):
                color = argument.removeprefix("--color=")
            elif argument == "--color" and i + 1 < len(arguments):
                color = arguments[i + 1]
        return cls(color=color)

    def data(self, text: str) -> None:
        """A line of what the command was asked for."""
        self._out(printable(text))

    def json(self, schema: str, value: dict[str, Any]) -> None:
        """The answer for programs; ``schema`` is its name and version, such as ``adpm.list/1``."""
        import json  # noqa: PLC0415

        sys.stdout.write(json.dumps({"schema": schema, **value}, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def table(self, rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> None:
        """Aligned columns; the header only for people, so that scripts can cut columns."""
        shown = [header, *rows] if header and sys.stdout.isatty() else list(rows)
        widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))] if shown else []
        for row in shown:
            self.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def say(self, text: str, *, style: str | None = None) -> None:
        """A sentence about what is going on."""
        if not self.quiet:
            self._err(click.style(printable(text), fg=style) if style and self.colored(sys.stderr) else printable(text))

    def heading(self, text: str) -> None:
        """A line that begins a part of a longer show."""
        self._out("\n" + (click.style(f"# {text}", bold=True) if self.colored(sys.stdout) else f"# {text}"))

    def prompt(self, command: str) -> None:
        """A command as a user would type it."""
        self._out(click.style(f"$ {command}", fg="cyan") if self.colored(sys.stdout) else f"$ {command}")

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def error(self, error: AdpmError) -> None:
        """``error[code]: what``, then cause and hint."""
        bold = self.colored(sys.stderr)
        head = f"error[{error.code}]:"
        self._err(f"{click.style(head, fg='red', bold=True) if bold else head} {error.what}")
        for name, value in (("cause", error.cause), ("hint", error.hint)):
            if value:
                first, *rest = value.split("\n")
                label = click.style(f"{name}:", bold=True) if bold else f"{name}:"
                self._err(f"{label} {first}")
                for line in rest:
                    self._err(f"       {line}")

    def usage(self, error: click.ClickException) -> None:
        ctx = getattr(error, "ctx", None)
        command = ctx.command_path if ctx is not None else "adpm"
        self.error(UsageError("usage", error.format_message(), hint=f"'{command} --help' explains the call"))

    def system(self, error: OSError) -> None:
        where = f" ({error.filename})" if error.filename else ""
        self.error(AdpmError("system", f"the operating system refused{where}", cause=error.strerror or str(error)))

    def colored(self, stream: TextIO) -> bool:
        if self._color == "auto":
            return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return self._color == "always"

    def _out(self, text: str) -> None:
        sys.stdout.write(_encodable(text, sys.stdout) + "\n")

    def _err(self, text: str) -> None:
        sys.stderr.write(_encodable(text, sys.stderr) + "\n")


def _encodable(text: str, stream: TextIO) -> str:
    """``text`` in what the stream can hold; ASCII escapes where it can't hold more."""
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
