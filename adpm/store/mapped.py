"""A file's bytes as memory of one's own, read when they are used."""

from __future__ import annotations

import io
import mmap
import os
import resource
import sys

__all__ = ["mapped"]


def mapped(descriptor: int, size: int) -> memoryview:
    """The first ``size`` bytes of an open file, which may be closed then; writing into them changes no file.

    They are mapped. Before Python 3.13 a map keeps a descriptor open for as long as it lives: where three quarters of
    what the process may open are taken, the bytes are read instead, so that any number of files can be held.
    """
    if size == 0:
        return memoryview(b"")  # nothing can't be mapped
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY, trackfd=False))
    return (
        memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))
        if _room(descriptor)
        else _read(descriptor, size)
    )


def _room(descriptor: int) -> bool:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(descriptor)  # a new descriptor is the lowest number that is free
    os.close(free)
    return soft == resource.RLIM_INFINITY or free < soft * 3 // 4


def _read(descriptor: int, size: int) -> memoryview:
    view = memoryview(bytearray(size))
    done = 0
    with io.FileIO(descriptor, closefd=False) as file:
        while done < size and (count := file.readinto(view[done:])):
            done += count
    return view[:done]
