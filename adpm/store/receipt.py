"""Receipts: a note that an install found nothing to do, so that the next one need not read what it read.

A receipt is named by the digest of everything the answer depended on (the project's files) and lists the objects that
must be there. It holds as long as they are, which costs one stat each; the collector throws all receipts away. This
module imports nothing of adpm: a no-op install of 200 adapters must not pay for parsers that it does not need.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

__all__ = ["clear", "holds", "write"]


def write(root: str, inputs: Iterable[bytes], note: str, objects: Iterable[tuple[str, int]]) -> None:
    """Note that ``objects`` ((hex digest, size in bytes) each) are all that ``inputs`` ask for; ``note`` is one line.

    A receipt is no more than a memory: if it can't be written the next install does its work again.
    """
    lines = [note, *(f"{digest} {size}" for digest, size in objects)]
    path = _path(root, inputs)
    part = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "w", encoding="ascii") as file:
            file.write("\n".join(lines))
        os.replace(part, path)
    except OSError:
        return


def holds(root: str, inputs: Iterable[bytes]) -> str | None:
    """The note of the receipt for ``inputs``, if there is one and all its objects are there with their sizes."""
    try:
        with open(_path(root, inputs), encoding="ascii") as file:
            note, *lines = file.read().split("\n")
        for line in lines:
            digest, size = line.split(" ")
            if os.stat(f"{root}/objects/sha256/{digest[:2]}/{digest[2:]}").st_size != int(size):
                return None
    except (OSError, ValueError):
        return None
    return note


def clear(root: str) -> None:
    """Forget all receipts."""
    directory = f"{root}/receipts"
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        os.unlink(f"{directory}/{name}")


def _path(root: str, inputs: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for data in inputs:
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return f"{root}/receipts/{digest.hexdigest()}"
