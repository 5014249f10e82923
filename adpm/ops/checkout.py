"""``adpm checkout``: the locked adapters as plain directories, for PEFT, AdapterHub or vLLM to read."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from adpm.core.lock import Lock, LockedPackage
from adpm.errors import StoreError, UsageError
from adpm.store.store import Store

__all__ = ["CheckedOut", "checkout"]

_MARK = ".adpm-checkout"


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """``directories``: name to directory; ``ways``: how many files were linked how (``reflink``, ``hardlink``, ...)."""

    directories: dict[str, Path]
    ways: dict[str, int]


def checkout(lock: Lock, store: Store, target: Path) -> CheckedOut:
    """Make ``target/NAME`` for each locked adapter, under its alias, or its package name where it has none.

    The directory appears complete or not at all: it is built beside ``target`` and renamed; one that an earlier
    checkout made is replaced, any other is left alone (``UsageError``, ``checkout-exists``).
    """
    if target.exists() and not (target / _MARK).is_file() and any(target.iterdir()):
        raise UsageError(
            "checkout-exists",
            f"{target} exists and was not made by 'adpm checkout'",
            hint="name another directory, or move this one away",
        )
    _check_complete(lock, store)
    building = target.parent / f".{target.name}-{secrets.token_hex(6)}"
    ways: dict[str, int] = {}
    try:
        with store.session():
            for name, package in lock.names():
                _link(package, store, f"{building}/{name}", ways)
        building.mkdir(parents=True, exist_ok=True)
        (building / _MARK).write_text("Made by 'adpm checkout'; the next one replaces it.\n", encoding="utf-8")
        _put_in_place(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return CheckedOut({name: target / name for name, _ in lock.names()}, ways)


def _check_complete(lock: Lock, store: Store) -> None:
    for package in lock.packages.values():
        for file in package.files:
            if not store.has(file.blob):
                raise StoreError(
                    "not-installed",
                    f"{file.path} of {package.name} {package.version} is not in the store",
                    hint="run 'adpm install' first",
                )


def _link(package: LockedPackage, store: Store, directory: str, ways: dict[str, int]) -> None:
    try:
        os.mkdir(directory)  # makedirs looks for its parents first, which takes longer than to make it
    except OSError:
        os.makedirs(directory, exist_ok=True)
    for file in package.files:
        way = store.link_out(file.blob, f"{directory}/{file.path}")
        ways[way] = ways.get(way, 0) + 1


def _put_in_place(building: Path, target: Path) -> None:
    if not target.exists():
        building.rename(target)
        return
    old = building.with_name(building.name + "-old")
    target.rename(old)
    try:
        building.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
