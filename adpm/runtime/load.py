"""``adpm.load``: the locked adapters on a model, every byte verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from torch import nn

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.composition import Composition, blocks, leaves
from adpm.core.files import LOCK_FILE
from adpm.core.lock import Lock, LockedPackage
from adpm.core.mixing import Member, fused, fusion_for
from adpm.errors import BaseMismatchError, NotFoundError, UsageError
from adpm.formats.adapterhub_fusion import told_names
from adpm.formats.card import read_card
from adpm.formats.lock import read_lock
from adpm.runtime.adapters import Adapters, attach
from adpm.runtime.identity import identify
from adpm.runtime.sites.declare import Sites
from adpm.store.files import read_bounded
from adpm.store.store import Store

__all__ = ["load"]

DEFAULT = "default"
Files = dict[str, memoryview]


def load(
    model: nn.Module,
    project: str | Path | None = None,
    *,
    base: str | None = None,
    groups: Collection[str] = (),
    only: Collection[str] = (),
    store: Store | None = None,
    sites: Sites | None = None,
) -> Adapters:
    """Put what ``adapter.lock`` pins on ``model`` and activate it.

    Active is then the composition ``default``; where the lock has none, the only adapter; else nothing. Of a lock
    with several bases, the adapters and compositions for the one that the model is count alone, and before the only
    adapter a composition named as the base; ``base`` names the base where the lock does not know its bases well
    enough to tell.
    Adapters of a group are loaded with ``groups`` that name it; those of ``only``, if any, alone.

    ``project`` is the project's directory or the lock itself; None: the nearest one at or above the working directory.
    Of a workspace's lock the part of the member counts that the directory is in.
    Adapters are named by their aliases, those that others require by their package names. Every file is hashed in the
    store (``store``: the machine's own by default) right before the same mapped bytes are parsed. Nothing is fetched.
    ``sites`` is what ``attach`` takes.

    Raises ``NotFoundError`` (``lock-not-found``; ``object-missing``: run ``adpm install``), ``IntegrityError``
    (``object-corrupt``), ``BaseMismatchError`` (``base-mismatch``) where the model is not the base that the lock or a
    card names, ``UsageError`` (``base-ambiguous``) where it may be several of the lock's bases, ``DocumentError`` and
    ``AdapterError`` for files that don't fit. The model is as before then.
    Cost: one pass of sha256 over the files, one walk over the model.
    """
    path, lock = _lock(project)
    lock = lock.selected(groups, only)
    store = store or Store.default()
    identity = identify(model)
    chosen = _base(lock, identity, base, path)
    handle = attach(model, sites=sites)
    try:
        _put_on(handle, lock, store, identity, chosen)
    except BaseException:
        handle.unload()
        raise
    return handle


def _base(lock: Lock, identity: BaseIdentity, wanted: str | None, path: Path) -> str | None:
    """Which of the lock's bases the model is; None for the only one, which has no name."""
    if not lock.bases:
        if lock.base is not None:
            _check(lock.base, identity, f"the lock {path}")
        return None
    if wanted is not None:
        if wanted not in lock.bases:
            raise UsageError(
                "base-ambiguous",
                f"the lock {path} has no base {wanted!r}",
                hint=f"its bases are: {', '.join(lock.bases)}",
            )
        _check(lock.bases[wanted], identity, f"the base {wanted} of the lock {path}")
        return wanted
    misfits = {name: base.misfit(identity) for name, base in lock.bases.items()}
    fitting = [name for name, reason in misfits.items() if reason is None]
    if not fitting:
        raise BaseMismatchError(
            "base-mismatch",
            f"this model is none of the bases of the lock {path}",
            cause="\n".join(f"{name}: {_of_model(reason or '')}" for name, reason in misfits.items()),
            hint="load a model that adapter.yaml names as one of its bases",
        )
    if len(fitting) > 1:
        raise UsageError(
            "base-ambiguous",
            f"this model may be any of the bases {', '.join(fitting)} of the lock {path}",
            hint=f"say which it is: adpm.load(model, base={fitting[0]!r})",
        )
    return fitting[0]


def _put_on(handle: Adapters, lock: Lock, store: Store, identity: BaseIdentity, base: str | None) -> None:
    names, members = dict(lock.names(base)), dict[str, Member]()
    for name, package in names.items():
        what = f"{package.name} {package.version}"
        card = read_card(bytes(store.map(package.card)), f"the card of {what}")
        _check(card.base, identity, what)
        files = _files(package, store)
        handle.read_files(files, name, source=what)
        members[name] = Member(card.method, None, *told_names(files, source=what))
    compose = {name: c for name, c in lock.compose.items() if base in lock.bases_of(c)}
    handle.compositions.update(compose)
    _put_fusions(handle, compose, members, lambda name: _files(names[name], store))
    aliases = [str(alias) for alias, adapter in lock.adapters.items() if adapter.base == base]
    named = next((name for name in (DEFAULT, base) if name in handle.compositions), None)
    if named is not None:
        handle.activate(named)
    elif len(aliases) == 1:
        handle.activate(aliases[0])


def _put_fusions(
    handle: Adapters, compose: Mapping[str, Composition], members: Mapping[str, Member], files: Callable[[str], Files]
) -> None:
    """Read the weights of what the compositions fuse, where a package brings them; others are still to be made."""
    for composition in compose.values():
        order = dict.fromkeys([*leaves(composition), *sorted(members)])
        for block in blocks(composition):
            found = fusion_for(block, members.__getitem__, order) if block.kind == "fuse" else None
            if found is not None:
                handle.read_fusion_files(files(found), fused(block), source=f"the fusion that comes with {found}")


def _files(package: LockedPackage, store: Store) -> Files:
    return {file.path: store.map(file.blob) for file in package.files}


def _check(base: BaseIdentity, identity: BaseIdentity, what: str) -> None:
    reason = base.misfit(identity)
    if reason is not None:
        raise BaseMismatchError(
            "base-mismatch",
            f"{what} was made for another base model",
            cause=_of_model(reason),
            hint="load the model that adapter.yaml names as its base",
        )


def _of_model(reason: str) -> str:
    return reason.replace("the project's base", "this model")


def _lock(project: str | Path | None) -> tuple[Path, Lock]:
    """The lock of the project, of a workspace its own part, and the file that it is in."""
    start = Path(os.path.abspath(project or Path.cwd()))
    if start.is_file():
        return start, _part(_read(start), start, start.parent)
    for directory in (start, *start.parents):
        path = directory / LOCK_FILE
        if path.is_file():
            lock = _read(path)
            if project is None or directory == start or lock.members:
                return path, _part(lock, path, start)
    raise NotFoundError(
        "lock-not-found",
        f"there is no {LOCK_FILE} in {start}" + (" or above it" if project is None else ""),
        hint="write one with 'adpm lock', or name the project's directory",
    )


def _read(path: Path) -> Lock:
    return read_lock(read_bounded(path, limits.LOCK_BYTES), str(path))


def _part(lock: Lock, path: Path, start: Path) -> Lock:
    """Of a workspace's lock, what is for the member that ``start`` is in."""
    if not lock.members:
        return lock
    below = start.relative_to(path.parent)
    for place in (below, *below.parents):
        if place.as_posix() in lock.members:
            return lock.part(place.as_posix())
    raise NotFoundError(
        "lock-not-found",
        f"{start} is in no member of the workspace that {path} is for",
        hint=f"name a member's directory: {', '.join(str(path.parent / member) for member in lock.members)}",
    )
