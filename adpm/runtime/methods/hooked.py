"""Parts that bring their own hooks: they act on the model, its layers or its attention, and not on one linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Point
from adpm.runtime.part import Part

__all__ = ["Acts", "HookedPart"]

Acts = Mapping[Point, Callable[..., Any]]


class HookedPart(Part):
    """A part that says itself what it does where.

    ``FIRST_ALONE``: in a stack it acts only where its adapter is the first, as in the peer. ``ALONE``: a composition has
    room for one such part.
    """

    FIRST_ALONE: ClassVar[bool] = False
    ALONE: ClassVar[bool] = False

    def acts(self, anatomy: Anatomy) -> Acts:
        """The operations of this part, by the points where they act."""
        raise NotImplementedError
