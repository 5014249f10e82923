"""``adpm impact``: which of the locked adapters would fit another base. Reads cards, never weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adpm.core.base import BaseIdentity
from adpm.core.files import LOCK_FILE
from adpm.core.lock import LockedPackage
from adpm.core.manifest import BaseSource
from adpm.core.release import Card
from adpm.errors import NotFoundError
from adpm.ops.base import base_directory, declared_base
from adpm.ops.cards import cards
from adpm.ops.project import Project
from adpm.registry.chain import Chain
from adpm.store.store import Store

__all__ = ["Impact", "Verdict", "impact"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A locked adapter on the other base. ``reason``: why it would not fit; None where nothing speaks against it.

    ``known``: whether its card says enough of its base to tell.
    """

    name: str
    package: LockedPackage
    reason: str | None
    known: bool


@dataclass(frozen=True, slots=True)
class Impact:
    """``tokenizer``: whether the other base splits texts as the locked one does; None where that is not known."""

    base: BaseIdentity
    tokenizer: Literal["same", "other"] | None
    verdicts: tuple[Verdict, ...]

    @property
    def misfits(self) -> int:
        return sum(verdict.reason is not None for verdict in self.verdicts)


def impact(
    project: Project,
    store: Store,
    other: BaseSource,
    chain: Callable[[], Chain] | None,
    *,
    instead_of: str | None = None,
) -> Impact:
    """What would become of the locked adapters if ``other`` (a path is relative to the working directory) came.

    ``instead_of``: of several bases, the one that it would replace; None: each adapter is judged. Cards that the store
    lacks are fetched through ``chain``; without one that is ``NetworkError`` (``offline``). Raises ``NotFoundError``
    (``base-not-cached``) if the files of ``other`` are not on this machine, (``base-unknown``) for ``instead_of``.
    """
    lock = project.need_lock()
    if instead_of is not None and instead_of not in lock.bases:
        raise NotFoundError(
            "base-unknown",
            f"{LOCK_FILE} has no base {instead_of!r}",
            hint=f"its bases are: {', '.join(lock.bases) or 'one without a name'}",
        )
    if base_directory(other, Path()) is None:
        raise NotFoundError(
            "base-not-cached",
            f"the base {other.model} is not on this machine",
            cause=f"looked for revision {other.revision or 'main'} in the Hugging Face Hub's cache",
            hint="download its config.json and weights, or name a directory: adpm impact --base ../model",
        )
    base = declared_base(other, Path())
    named = [(name, package) for name, package in lock.names(instead_of)]
    found = cards((package for _, package in named), store, chain)
    verdicts = (_verdict(name, package, found[package.key], base) for name, package in named)
    locked = lock.bases[instead_of] if instead_of is not None else lock.base
    return Impact(base, _tokenizer(locked, base), tuple(verdicts))


def _verdict(name: str, package: LockedPackage, card: Card, base: BaseIdentity) -> Verdict:
    reason = card.base.misfit(base)
    return Verdict(name, package, reason, reason is not None or card.base.shape is not None)


def _tokenizer(locked: BaseIdentity | None, base: BaseIdentity) -> Literal["same", "other"] | None:
    if locked is None or locked.tokenizer is None or base.tokenizer is None:
        return None
    return "same" if locked.tokenizer == base.tokenizer else "other"
