"""Parts that bring their own hooks: they act on the model, its layers or its attention, and not on one linear layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act
from adpm.runtime.part import Part

__all__ = ["HookedPart", "WatchingPart"]


class HookedPart(Part, ABC):
    """A part that says itself what it does where.

    ``FIRST_ALONE``: in a stack it acts only where its adapter is the first, as in the peer. ``ALONE``: a composition
    has room for one such part. ``layer``: the module that it acts on, where it is one; ``skip`` knows its number.
    """

    FIRST_ALONE: ClassVar[bool] = False
    ALONE: ClassVar[bool] = False
    layer: str | None = None

    @abstractmethod
    def acts(self, anatomy: Anatomy) -> Iterable[Act]:
        """The operations of this part."""


class WatchingPart(Part, ABC):
    """A part that looks at the pass and changes nothing, so that every composition has room for it."""

    @abstractmethod
    def acts(self, anatomy: Anatomy) -> Iterable[Act]:
        """The operations of this part."""

    def make_trainable(self) -> None:
        """Nothing: it has no tensors."""
