"""What acts on one module of the base, and the kinds of it that most methods are.

A part may change what goes into the module, what comes out, or both. ``fold_output`` and ``fold_input`` say the same as
a weight and a bias, where the module is a linear layer y = x W^T + b. Shapes: x is ... x in, y ... x out, W out x in, b
out. A convolution is one of patches: its W is out x (in / groups * kernel), its x batch x in x place, its y likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.runtime.methods.added import added, low_rank
from adpm.runtime.part import Part

__all__ = [
    "CONVOLUTIONS",
    "DeltaPart",
    "Folded",
    "LayerPart",
    "MethodPart",
    "PairPart",
    "Place",
    "Seen",
    "Tensors",
    "bias_of",
    "by_output",
    "misfit",
    "product",
    "weight_of",
]

Folded = tuple[Tensor, Tensor | None]
Tensors = Mapping[str, Tensor]  # a part's, by its slots
CONVOLUTIONS: Final[Mapping[type[nn.Module], Any]] = {
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}


@dataclass(frozen=True, slots=True)
class Place:
    """One module that a method changes; ``inputs`` and ``outputs`` of an embedding are its tokens and their size.

    Of a convolution they are the sides of its weight as a matrix, with ``kernel`` inside ``inputs``. ``number``: which
    it is ``among`` so many that the adapter changes, in the model's order.
    """

    name: str
    module: nn.Module
    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    number: int = 0
    among: int = 1


class Seen(NamedTuple):
    """One call of a module: the module, the bias that its output has, and its input. ``rows``: which rows of the batch
    the input has, where a part of the composition ``watches_rows`` and it does not have all; None for all."""

    layer: nn.Module
    bias: Tensor | None
    x: Tensor
    rows: Tensor | None = None


class LayerPart(Part):
    """What acts on the module called ``layer``. ``watches_rows``: whether it wants to know which rows it acts on."""

    watches_rows: ClassVar[bool] = False

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], layer: str) -> None:
        super().__init__(adapter, names)
        self.layer = layer

    @property
    def moves_input(self) -> bool:
        """Whether ``before`` does anything."""
        return False

    @property
    def folds(self) -> bool:
        """Whether it acts as the change of the weight that it folds into, since no other input says the same."""
        return False

    @property
    def first_moves_first(self) -> bool:
        """Of several parts that change the input: whether the first acts on it first, and not the last."""
        return False

    def before(self, x: Tensor) -> Tensor:
        """What goes into the module instead of ``x``."""
        return x

    def after(self, seen: Seen, output: Tensor) -> Tensor:  # noqa: ARG002 - what others look at
        """What comes out instead of ``output``; ``seen.x`` is what ``before`` of all parts made."""
        return output

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:  # noqa: ARG002 - what others fold into
        """``after`` as a change of weight (out x in) and bias.

        Raises ``AdapterError`` (``method-unsupported``) where it is none.
        """
        raise AdapterError("method-unsupported", f"what acts on {self.layer} can't be merged into a weight")

    def fold_input(self, weight: Tensor) -> Tensor:
        """``before`` as a change of the weight."""
        if not (self.moves_input or self.folds):
            return weight
        one = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        return weight @ self.before(one).T


class MethodPart(LayerPart):
    """A part of one of PEFT's methods.

    A class says which tensors it has at a place (``slots``) and how they start; files hold them below the module's
    name.
    """

    FROZEN: ClassVar[frozenset[str]] = frozenset()  # slots that are never trained
    CONVOLVED: ClassVar[tuple[type[nn.Module], ...]] = ()  # the convolutions that the method is defined for
    EMBEDDED: ClassVar[bool] = False  # whether it is defined for embeddings

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], place: Place, config: PeftMethod) -> None:
        super().__init__(adapter, names, place.name)
        self.place = place
        self._parts: Mapping[str, Part] = getattr(adapter, "parts", {})  # of the same adapter, for what they share
        self.setup(config)

    def setup(self, config: PeftMethod) -> None:
        """Keep what the formula needs of ``config``."""

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        """Raises ``AdapterError`` (``adapter-misfit``) where the config can't divide the place."""
        raise NotImplementedError

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        """Fill a new part's tensors in place, as the peer does."""
        raise NotImplementedError

    def make_trainable(self) -> None:
        for slot in self.names:
            self[slot].requires_grad_(slot not in self.FROZEN)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return weight, bias


class DeltaPart(MethodPart):
    """y + drop(x) D^T, with D: out x in made from the adapter's tensors, and of W where a method says so."""

    dropout: float = 0.0

    def delta(self, weight: Tensor) -> Tensor:
        """D; ``weight`` is the layer's, out x in."""
        raise NotImplementedError

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        x = functional.dropout(seen.x, self.dropout) if self.dropout and self.training else seen.x
        return output + product(seen.layer, x, self.delta(weight_of(seen.layer)).to(x.dtype))

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return weight + self.delta(weight).to(weight.dtype), bias


class PairPart(MethodPart):
    """y + scale * (drop(x) A^T) B^T, with A: r x in and B: out x r."""

    scale: float = 1.0
    dropout: float = 0.0

    def pair(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        raise NotImplementedError

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        a, b = self.pair()
        x = functional.dropout(seen.x, self.dropout) if self.dropout and self.training else seen.x
        if self.place.kernel:
            return output + product(seen.layer, x, ((b @ a) * self.scale).to(x.dtype))
        return added(output, low_rank(x, a, b, self.scale))

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        a, b = self.pair()
        return weight + (b @ a) * self.scale, bias


def weight_of(layer: nn.Module) -> Tensor:
    """The layer's weight as out x in; transformers' Conv1D keeps it as in x out, a convolution as more dimensions."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError("a linear layer's weight is a tensor")
    if type(layer) in CONVOLUTIONS:
        return weight.flatten(1)
    return weight.T if type(layer).__name__ == "Conv1D" else weight


def product(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """What ``layer`` would give for ``x`` with another ``weight`` (out x in) and no bias."""
    run = CONVOLUTIONS.get(type(layer))
    if run is None:
        return functional.linear(x, weight)
    conv = cast("nn.Conv2d", layer)
    shaped = weight.reshape(conv.weight.shape)
    out: Tensor = run(x, shaped, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    return out


def by_output(layer: nn.Module, vector: Tensor) -> Tensor:
    """A vector with an entry for each output of ``layer`` (or input), so that it broadcasts to what comes out (in)."""
    kernel = cast("nn.Conv2d", layer).weight.dim() - 2 if type(layer) in CONVOLUTIONS else 0
    return vector.view(-1, *(1,) * kernel)


def bias_of(layer: nn.Module) -> Tensor | None:
    bias = getattr(layer, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def misfit(place: Place, why: str) -> AdapterError:
    """The error for a layer whose size a method can't divide."""
    return AdapterError(
        "adapter-misfit", f"the adapter does not fit {place.name} ({place.inputs} to {place.outputs})", cause=why
    )
