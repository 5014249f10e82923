"""The weights of one adapter at one place of the model, and how such a place is described before weights exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot

__all__ = ["Blueprint", "Part"]


class Part(nn.Module):
    """Parameters by their slots' names, bound and not copied; frozen until they are trained."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    def make_trainable(self) -> None:
        """Let gradients reach every tensor that the method trains."""
        self.requires_grad_(True)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors by their slots' names; none is ever None."""
        return cast("dict[str, Tensor]", self._parameters)

    def tensor(self, slot: str) -> Tensor:
        """The tensor of one slot."""
        return self.weights[slot]

    def shared(self, parts: Mapping[str, Part]) -> None:
        """Take what parts of one adapter have in common; called once, when all parts of the adapter are there."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One part of an adapter as its config and the model decide it.

    ``key`` names it inside the adapter: a module path, or a path and what acts there. ``file`` holds what stands before
    and after the adapter's name in the file's tensor names; ``start`` fills a new part's tensors in place.
    """

    key: str
    file: tuple[str, str]
    slots: tuple[Slot, ...]
    build: Callable[[Mapping[str, Tensor]], Part]
    start: Callable[[Mapping[str, Tensor], Generator | None], None]
