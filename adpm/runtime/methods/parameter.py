"""LoRA of a parameter, whatever the module does with it: PEFT's ``target_parameters``. The experts of a mixture are one
parameter of three dimensions, and each of them gets a pair of its own.

    W_e + scale * B_e A_e                    A_e = A[e r : (e + 1) r], r x in;  B_e = B[:, e::E], out x r

A: E r x in, B: out x E r. W is out x in or E x out x in; experts that say that they are transposed have E x in x out.
While the module runs, it finds the sum where it looks for W: for its own thread alone, and only what looks it up by its
name. Several of one module nest in the file, the last one outermost.

Source: ``peft`` 0.21.2, ``tuners/lora/layer.py`` (``ParamWrapper``) and ``tuners/tuners_utils.py``
(``_inject_parameters``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Order, Point
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.methods.own_parameters import give_back, lend

__all__ = ["Parameter", "ParameterPart", "parameter_of", "parameter_slots"]

# What says so in transformers 5, and is so in transformers 4. Llama 4's are, and say it nowhere: the peer takes them
# for out x in, which comes to the same with A and B in each other's place.
_TRANSPOSED: Final = frozenset({"GptOssExperts"})


class Parameter(NamedTuple):
    """``word`` of the module ``layer``. ``below``: how deep its tensors nest in a file."""

    layer: str
    word: str
    experts: int
    inputs: int
    outputs: int
    transposed: bool
    below: int

    @property
    def key(self) -> str:
        return f"{self.layer}.{self.word}".replace(".", "/")


def parameter_of(layer: str, module: nn.Module, word: str, below: int) -> Parameter:
    """Raises ``AdapterError`` (``adapter-misfit``) where the parameter has neither two nor three dimensions."""
    shape = tuple(module.get_parameter(word).shape)
    if len(shape) not in (2, 3):
        raise AdapterError(
            "adapter-misfit",
            f"the adapter targets {layer}.{word}, whose shape is {list(shape)}",
            cause="a matrix, or a stack of them, can have a low-rank change",
        )
    experts, first, second = (1, *shape)[-3:]
    known = getattr(module, "is_transposed", type(module).__name__ in _TRANSPOSED)
    transposed = len(shape) == 3 and bool(known)
    inputs, outputs = (first, second) if transposed else (second, first)
    return Parameter(layer, word, experts, inputs, outputs, transposed, below)


def parameter_slots(found: Parameter, rank: int) -> tuple[Slot, ...]:
    nested = "base_layer." * found.below
    whole = rank * found.experts
    return (
        Slot("A", f"{nested}lora_A.weight", (whole, found.inputs)),
        Slot("B", f"{nested}lora_B.weight", (found.outputs, whole)),
    )


class ParameterPart(HookedPart):
    """The change of one parameter. Slots: ``A``, ``B``."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], found: Parameter, scale: float) -> None:
        super().__init__(adapter, names)
        self.found, self.scale = found, scale

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:  # noqa: ARG002 - a HookedPart's
        yield Act(Point(self.found.layer, "before"), _Lend(self), Order.SEE)
        yield Act(Point(self.found.layer, "always"), _GiveBack(self), Order.FIRST)

    def changed(self, weight: Tensor) -> Tensor:
        """The parameter with the change. Shape: as ``weight``'s."""
        experts = self.found.experts
        a = self["A"].view(experts, -1, self["A"].shape[1])
        b = self["B"].view(len(self["B"]), -1, experts).permute(2, 0, 1)
        left, right = (a.mT, b.mT) if self.found.transposed else (b, a)
        out = torch.baddbmm(weight.view(experts, *weight.shape[-2:]), left, right, alpha=self.scale)
        return out.view(weight.shape)


class _Lend:
    def __init__(self, part: ParameterPart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        word = self.part.found.word
        lend(module, word, self.part.changed(getattr(module, word)))


class _GiveBack:
    def __init__(self, part: ParameterPart) -> None:
        self.part = part

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002 - a hook's
        give_back(module, self.part.found.word)
