"""Every error that adpm raises on purpose, in one tree with one shape.

    AdpmError                   1  something failed
    ├── UsageError              2  the call itself is wrong
    ├── DocumentError           1  a file breaks its format: all faults at once, each with its path
    ├── NoSolutionError         3  no set of releases meets every requirement
    ├── LoginNeededError        4  a server wants credentials, or refused these
    ├── NotFoundError           5  a package, release, file or alias does not exist
    ├── IntegrityError          6  bytes are not what their digest says, or two sources disagree
    ├── NetworkError            7  a server could not be reached or did not answer properly
    ├── LockOutdatedError       8  the lock does not belong to the manifest
    ├── StoreError              1  the local store could not do its work
    ├── RegistryError           1  a registry refused: read-only, a version taken, a broken layout
    ├── BudgetError             1  a search was ended by its work budget; this says nothing of solutions
    ├── BaseMismatchError       1  an adapter was trained for another base model
    ├── AdapterError            1  an adapter's files do not fit together, or not this model
    └── CompositionError        1  a composition can't be read or can't be run

The number is the exit status of the command line. ``code`` is a stable kebab-case word: programs match on it,
people search for it; ``specs/errors.md`` lists every one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "AdapterError",
    "AdpmError",
    "BaseMismatchError",
    "BudgetError",
    "CompositionError",
    "DocumentError",
    "Fault",
    "IntegrityError",
    "LockOutdatedError",
    "LoginNeededError",
    "NetworkError",
    "NoSolutionError",
    "NotFoundError",
    "RegistryError",
    "StoreError",
    "UsageError",
]


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that a file's content can't drive a terminal."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


class AdpmError(Exception):
    """What happened, why, and what to do about it.

    ``what`` is one line; ``cause`` and ``hint`` may be several. Further keyword arguments become attributes, so that
    a program need not parse the message.
    """

    exit_status: ClassVar[int] = 1

    def __init__(
        self, code: str, what: str, *, cause: str | None = None, hint: str | None = None, **values: object
    ) -> None:
        self.code = code
        self.what = printable(what)
        self.cause = None if cause is None else printable(cause)
        self.hint = None if hint is None else printable(hint)
        self.values = values
        super().__init__(self.what)

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self) -> str:
        return self.what if self.cause is None else f"{self.what}: {self.cause}"


class UsageError(AdpmError):
    exit_status = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule in a document: where (``adapters.sst.package``), what is wrong, and the line if known."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.path or "document"
        return f"{where} (line {self.line}): {self.message}" if self.line else f"{where}: {self.message}"


class DocumentError(AdpmError):
    """All faults of one document. ``source`` names it as the user knows it; ``faults`` stand by line, or as found."""

    def __init__(self, code: str, source: str, faults: list[Fault], *, hint: str | None = None) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(code, f"{source} is not valid ({count})", cause="\n".join(map(str, faults)), hint=hint)
        self.source = source
        self.faults = tuple(faults)


class NoSolutionError(AdpmError):
    exit_status = 3


class LoginNeededError(AdpmError):
    exit_status = 4


class NotFoundError(AdpmError):
    exit_status = 5


class IntegrityError(AdpmError):
    exit_status = 6


class NetworkError(AdpmError):
    exit_status = 7


class LockOutdatedError(AdpmError):
    exit_status = 8


class StoreError(AdpmError):
    pass


class RegistryError(AdpmError):
    pass


class BudgetError(AdpmError):
    pass


class BaseMismatchError(AdpmError):
    pass


class AdapterError(AdpmError):
    pass


class CompositionError(AdpmError):
    pass
