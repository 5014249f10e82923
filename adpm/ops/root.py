"""Finding a project, and finding that there is nothing to install: without reading what a file means.

Imports next to nothing, so that a no-op ``adpm install`` costs little more than starting Python.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from adpm import limits
from adpm.core.files import LOCK_FILE, MANIFEST_FILE
from adpm.store import receipt
from adpm.store.home import home
from adpm.version import __version__

_LOCK_NOTE: Final = f"adpm {__version__} lock".encode()  # another adpm may judge otherwise

__all__ = ["belongs", "find_root", "installed", "note_belongs", "note_installed"]


def find_root(start: str) -> str | None:
    """The nearest directory at or above ``start`` that holds ``adapter.yaml``."""
    directory = os.path.abspath(start)
    while not os.path.isfile(f"{directory}/{MANIFEST_FILE}"):
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent
    return directory


def installed(root: str) -> int | None:
    """How many packages the project in ``root`` has installed, if an earlier install noted that nothing is missing.

    None: unknown; the files have changed since, or objects are gone. Asks no network and parses nothing.
    """
    inputs = _inputs(root)
    note = None if inputs is None else receipt.holds(home(), inputs)
    return int(note) if note is not None and note.isdecimal() else None


def note_installed(root: str, packages: int, objects: Iterable[tuple[str, int]]) -> None:
    """Remember that the project's lock belongs to its manifest and that all its ``objects`` are in the store."""
    inputs = _inputs(root)
    if inputs is not None:
        receipt.write(home(), inputs, str(packages), objects)


def belongs(root: str) -> bool:
    """Whether it was noted that the project's lock belongs to its manifest, and both files are as they were then."""
    inputs = _inputs(root)
    return inputs is not None and receipt.holds(home(), (_LOCK_NOTE, *inputs)) is not None


def note_belongs(root: str) -> None:
    """Remember that the lock belongs to the manifest. Only for projects of which these two files decide it."""
    inputs = _inputs(root)
    if inputs is not None:
        receipt.write(home(), (_LOCK_NOTE, *inputs), "belongs", ())


def _inputs(root: str) -> tuple[bytes, ...] | None:
    """What the answer hangs on; None where the files are not there, or a workspace above may say more."""
    try:
        if _in_workspace(root):
            return None
        with open(f"{root}/{MANIFEST_FILE}", "rb") as manifest, open(f"{root}/{LOCK_FILE}", "rb") as lock:
            return os.fsencode(root), manifest.read(), lock.read()
    except OSError:
        return None


def _in_workspace(root: str) -> bool:
    """Whether a manifest above seems to be a workspace's, of which this project may be a member."""
    directory = os.path.dirname(root)
    while True:
        path = f"{directory}/{MANIFEST_FILE}"
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if b"workspace" in file.read(limits.MANIFEST_BYTES):
                    return True
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent
