"""``adpm.load``: the locked adapters on a model, every byte verified."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE
from adpm.core.lock import Lock, LockedPackage
from adpm.errors import BaseMismatchError, NotFoundError
from adpm.formats.card import read_card
from adpm.formats.lock import read_lock
from adpm.runtime.adapters import Adapters, attach
from adpm.runtime.identity import identify
from adpm.runtime.sites.declare import Sites
from adpm.store.store import Store

__all__ = ["load"]

DEFAULT = "default"


def load(
    model: nn.Module, project: str | Path | None = None, *, store: Store | None = None, sites: Sites | None = None
) -> Adapters:
    """Put what ``adapter.lock`` pins on ``model`` and activate it.

    Active is then the composition ``default``; where the lock has none, the only adapter; else nothing.
    ``project`` is the project's directory or the lock itself; None: the nearest one at or above the working directory.
    Adapters are named by their aliases, those that others require by their package names. Every file is hashed in the
    store (``store``: the machine's own by default) right before the same mapped bytes are parsed. Nothing is fetched.
    ``sites`` is what ``attach`` takes.

    Raises ``NotFoundError`` (``lock-not-found``; ``object-missing``: run ``adpm install``), ``IntegrityError``
    (``object-corrupt``), ``BaseMismatchError`` (``base-mismatch``) where the model is not the base that the lock or a
    card names, ``DocumentError`` and ``AdapterError`` for files that don't fit. The model is as before then.
    Cost: one pass of sha256 over the files, one walk over the model.
    """
    path = _lock_path(project)
    with path.open("rb") as file:
        lock = read_lock(file.read(limits.LOCK_BYTES + 1), str(path))
    store = store or Store.default()
    identity = identify(model)
    if lock.base is not None:
        _check(lock.base, identity, f"the lock {path}")
    handle = attach(model, sites=sites)
    try:
        _put_on(handle, lock, store, identity)
    except BaseException:
        handle.unload()
        raise
    return handle


def _put_on(handle: Adapters, lock: Lock, store: Store, identity: BaseIdentity) -> None:
    for name, package in lock.names():
        what = f"{package.name} {package.version}"
        card = read_card(bytes(store.map(package.card)), f"the card of {what}")
        _check(card.base, identity, what)
        handle.read_files(_files(package, store), name, source=what)
    handle.compositions.update(lock.compose)
    if DEFAULT in lock.compose:
        handle.activate(DEFAULT)
    elif len(lock.adapters) == 1:
        handle.activate(next(iter(lock.adapters)))


def _files(package: LockedPackage, store: Store) -> dict[str, memoryview]:
    return {file.path: store.map(file.blob) for file in package.files}


def _check(base: BaseIdentity, identity: BaseIdentity, what: str) -> None:
    reason = base.misfit(identity)
    if reason is not None:
        raise BaseMismatchError(
            "base-mismatch",
            f"{what} was made for another base model",
            cause=reason.replace("the project's base", "this model"),
            hint="load the model that adapter.yaml names as its base",
        )


def _lock_path(project: str | Path | None) -> Path:
    start = Path.cwd() if project is None else Path(project).absolute()
    if start.is_file():
        return start
    for directory in (start, *start.parents) if project is None else (start,):
        if (directory / LOCK_FILE).is_file():
            return directory / LOCK_FILE
    raise NotFoundError(
        "lock-not-found",
        f"there is no {LOCK_FILE} in {start}" + (" or above it" if project is None else ""),
        hint="write one with 'adpm lock', or name the project's directory",
    )
