"""Linking an object out to a user's directory, in the cheapest way that the file system can.

| way | what a user's write into it does |
|---|---|
| reflink | nothing: the file is its own, blocks are shared until then |
| hard link, symbolic link | refused, since objects are read-only; forced, it damages the object, and `map` says so |
| copy | nothing |
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from adpm.core.release import Blob
from adpm.errors import NotFoundError, StoreError
from adpm.store.durable import temporary
from adpm.store.files import blob_of
from adpm.store.layout import object_path

__all__ = ["Linker", "shared_file"]

_FICLONE: Final = 0x40049409  # linux/fs.h
_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EINVAL, errno.EMLINK, errno.EACCES}
)


def shared_file(source: Path, blob: Blob, directory: Path) -> Path | None:
    """A new file in ``directory``, read-only, with the bytes of ``source`` and without a copy of them.

    None where these are not ``blob``'s, where the two lie in different file systems, or where ``source`` is somebody
    else's. Errors are those of the file system.
    """
    found = os.path.realpath(source)
    descriptor, target = temporary(directory)
    os.close(descriptor)
    kept = False
    try:
        for way in (_reflink, _hard_link):
            try:
                way(found, str(target))
                kept = blob_of(target) == blob
                if kept:
                    target.chmod(0o444)  # of a hard link this is the mode of ``source``, too
                break
            except OSError as error:
                kept = False
                if error.errno not in _CANNOT:
                    raise
        return target if kept else None
    finally:
        if not kept:
            target.unlink(missing_ok=True)


class Linker:
    """Links objects of one store out; remembers what worked into which file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._first: dict[int, int] = {}
        self._last = ("", 0)  # the directory that was linked into last, and its file system

    def link_out(self, blob: Blob, target: Path | str) -> str:
        """Make ``target`` a file with the object's bytes, replacing what is there; the way it was done, as a word.

        ``target`` is whole or as before at every moment. The bytes are not hashed here. Raises ``NotFoundError``
        (``object-missing``), ``StoreError`` (``link-failed``).
        """
        source, target = object_path(self._root, blob.digest), str(target)  # a Path costs more than the link
        try:
            return self._link(source, target)
        except FileNotFoundError as error:
            if os.path.exists(source):
                raise _failed(blob, target, error) from error
            raise NotFoundError(
                "object-missing",
                f"{blob.digest} is not in the store {self._root}",
                hint="run 'adpm install' to fetch it",
                blob=blob,
            ) from None
        except OSError as error:
            raise _failed(blob, target, error) from error

    def _link(self, source: str, target: str) -> str:
        parent = os.path.dirname(target)
        known, device = self._last
        if known != parent:
            device = _device(parent)
            self._last = parent, device
        for i in range(self._first.get(device, 0), len(_WAYS)):
            word, way = _WAYS[i]
            try:
                try:
                    way(source, target)
                except FileNotFoundError:  # the directory is gone since; or the object is not there, and is not now
                    os.makedirs(parent, exist_ok=True)
                    way(source, target)
            except OSError as error:
                if error.errno not in _CANNOT or i == len(_WAYS) - 1:
                    raise
            else:
                self._first[device] = i
                return word
        raise AssertionError("the last way either works or raises")


def _device(directory: str) -> int:
    """The file system of ``directory``, which is made if it is not there."""
    try:
        return os.stat(directory).st_dev
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)
        return os.stat(directory).st_dev


def _failed(blob: Blob, target: str, error: OSError) -> StoreError:
    return StoreError(
        "link-failed",
        f"could not link {blob.digest} to {target}",
        cause=str(error),
        hint="check the permissions and the free space of that directory",
    )


def _reflink(source: str, target: str) -> None:
    _own_file(source, target, lambda here, there: fcntl.ioctl(there, _FICLONE, here), sync=False)


def _copy(source: str, target: str) -> None:
    def copy(here: int, there: int) -> None:
        with open(here, "rb", closefd=False) as read, open(there, "wb", closefd=False) as write:
            shutil.copyfileobj(read, write, 1 << 20)

    _own_file(source, target, copy, sync=True)


def _own_file(source: str, target: str, fill: Callable[[int, int], object], *, sync: bool) -> None:
    here = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there, unfinished = temporary(Path(target).parent)
        try:
            fill(here, there)
            os.fchmod(there, 0o644)
            if sync:
                os.fsync(there)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(there)
    finally:
        os.close(here)


def _hard_link(source: str, target: str) -> None:
    _new_name(os.link, source, target)


def _symbolic_link(source: str, target: str) -> None:
    _new_name(os.symlink, source, target)


def _new_name(make: Callable[[str, str], None], source: str, target: str) -> None:
    try:
        make(source, target)
    except FileExistsError:
        if os.path.samefile(source, target):
            return
        descriptor, unfinished = temporary(Path(target).parent)  # reserves a name
        os.close(descriptor)
        unfinished.unlink()
        try:
            make(source, str(unfinished))
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


_WAYS: Final[tuple[tuple[str, Callable[[str, str], None]], ...]] = (
    ("reflink", _reflink),
    ("hard link", _hard_link),
    ("symbolic link", _symbolic_link),
    ("copy", _copy),
)
