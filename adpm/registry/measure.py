"""Measuring what a place keeps of what publishing needs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from adpm import limits
from adpm.errors import AdpmError, NetworkError
from adpm.registry.place import Ability, WritablePlace
from adpm.store.parallel import in_parallel

__all__ = ["measured_writes"]

_RIVALS: Final = 8


def measured_writes(place: WritablePlace) -> Iterator[Ability]:
    """Write to ``place``, below ``.adpm``, and see what it keeps of what publishing needs. Everything is removed again.

    Errors of the first write are raised: then nothing can be said of the rest.
    """
    directory = f".adpm/check-{secrets.token_hex(8)}"
    paths = [f"{directory}/{name}" for name in ("first", "race", "swap")]
    try:
        yield from _created(place, directory, paths[0])
        yield _raced(place, paths[1])
        yield _swapped(place, paths[2])
    finally:
        for path in paths:
            with suppress(FileNotFoundError):
                place.remove(path)
        with suppress(OSError, AdpmError):
            place.remove(f"{directory}/")


def _created(place: WritablePlace, directory: str, path: str) -> Iterator[Ability]:
    began = time.monotonic()
    created = place.create(path, [b"one"])
    took = time.monotonic() - began
    same = place.read(path, limits.RECORD_BYTES).data == b"one"
    whole = created and same
    yield Ability(
        "writes", whole, f"a small file in {took * 1000:.0f} ms" if whole else "what was written is not there"
    )
    again = place.create(path, [b"two"])
    kept = place.read(path, limits.RECORD_BYTES).data == b"one"
    words = "what is there is not overwritten" if kept and not again else "what was there was overwritten"
    yield Ability("create only", kept and not again, words)
    listed = sorted(place.list(f"{directory}/")) == ["first"]
    yield Ability("listing of writes", listed, "at once" if listed else "a new file is not listed at once")


def _raced(place: WritablePlace, path: str) -> Ability:
    won: list[bytes] = []

    def run(me: bytes) -> None:
        if place.create(path, [me]):
            won.append(me)

    in_parallel(run, [b"writer %d" % i for i in range(_RIVALS)], threads=_RIVALS)
    words = f"of {_RIVALS} writers at once, {len(won)} heard that nothing was there"
    try:
        there = place.read(path, limits.RECORD_BYTES).data
    except (OSError, NetworkError):  # a store may spoil what several write at once
        return Ability("one winner", False, f"{words}, and what is there now can't be read")
    if len(won) == 1 and won[0] != there:
        words += ", but another one's content is there"
    return Ability("one winner", won == [there], words)


def _swapped(place: WritablePlace, path: str) -> Ability:
    place.create(path, [b"one"])
    token = place.read(path, limits.RECORD_BYTES).token
    done = place.replace(path, b"two", token)
    if not done:
        return Ability(
            "compare and swap", False, "none: indexes are written, then read again until nobody overwrote them"
        )
    late = place.replace(path, b"three", token)
    kept = place.read(path, limits.RECORD_BYTES).data == b"two"
    words = "a writer who comes late is told" if kept and not late else "a writer who comes late is not told"
    return Ability("compare and swap", kept and not late, words)
