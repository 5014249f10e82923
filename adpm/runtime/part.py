"""The weights of one adapter at one place of the model, and how such a place is described before weights exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot

__all__ = ["Blueprint", "Part", "state_of"]


def state_of(tensor: Tensor) -> tuple[int, int, torch.dtype]:
    """Another value for other content: memory, and how often it was written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.dtype  # noqa: SLF001 - no other way


class Part:
    """A view of the parameters that an adapter has at one place, by their slots' names.

    Parts are no modules: hundreds of adapters have thousands of them, and a module takes long to make. They look their
    parameters up in the adapter each time, so that whatever torch does to a module's parameters holds for them.
    """

    def __init__(self, adapter: nn.Module, names: Mapping[str, str]) -> None:
        self.adapter = adapter
        self.names = names  # slot to the parameter's name in the adapter
        self._store = cast("dict[str, Tensor]", adapter._parameters)  # noqa: SLF001 - torch has no other way by name

    def __getitem__(self, slot: str) -> Tensor:
        return self._store[self.names[slot]]

    def __contains__(self, slot: object) -> bool:
        return slot in self.names

    def get(self, slot: str) -> Tensor | None:
        """The tensor of a slot that not every such part has."""
        return self[slot] if slot in self.names else None

    @property
    def training(self) -> bool:
        return self.adapter.training

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        """Make ``tensors`` the part's parameters, by slots; they are not copied, and frozen until they are trained."""
        for slot, tensor in tensors.items():
            self._store[self.names[slot]] = nn.Parameter(tensor, requires_grad=False)

    def make_trainable(self) -> None:
        """Let gradients reach every tensor that the method trains."""
        for slot in self.names:
            self[slot].requires_grad_(True)


@dataclass(frozen=True)
class Blueprint:
    """One part of an adapter as its config and the model decide it.

    ``key`` names it inside the adapter: a module path, or a path and what acts there. ``file`` holds what stands before
    and after the adapter's name in the file's tensor names. ``build`` makes the part of an adapter from ``names``,
    still without tensors; ``start`` fills a new part's tensors in place. ``stored`` false: no file holds them, they
    always are what ``start`` makes.
    """

    key: str
    file: tuple[str, str]
    slots: tuple[Slot, ...]
    build: Callable[[Any, Mapping[str, str]], Part]
    start: Callable[[Mapping[str, Tensor], Generator | None], None]
    stored: bool = True
    names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", {slot.name: f"{self.key}/{slot.name}" for slot in self.slots})

    def new(self, like: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        """Fresh tensors of ``like``'s dtype and device, by slots."""
        tensors = {
            slot.name: torch.empty(slot.shape, dtype=torch.int32 if slot.whole else like.dtype, device=like.device)
            for slot in self.slots
        }
        with torch.no_grad():
            self.start(tensors, generator)
        return tensors
