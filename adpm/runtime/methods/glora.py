"""GLoRA: a weight and a bias that are scaled and moved, in one of several ways each.

    W + W * A + B, and b + b * D + E + W C where the layer has a bias        A, B: out x in, C: in x 1, D, E: out

    lora       Xd Xu           Xd: rows x r, Xu: r x columns
    vector     X               one value a row
    constant   X               one value
    none       zeros, which the peer keeps in its files in full size

Sources: Chavan et al. 2023 (2306.07967); ``peft`` 0.21.2, ``tuners/glora/layer.py``.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final, cast

from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftGlora
from adpm.runtime.methods.layer import Folded, MethodPart, Place, Seen, Tensors, bias_of, weight_of

__all__ = ["GloraPart"]

_PATHS: Final = ("A", "B", "C", "D", "E")


class GloraPart(MethodPart):
    """Slots of each of A to E: ``A_down`` and ``A_up``, or ``A``, or ``A_none``."""

    FROZEN: ClassVar[frozenset[str]] = frozenset(f"{path}_none" for path in _PATHS)

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftGlora", config)
        biased = bias_of(place.module) is not None
        inner, outer = (config.config_C, config.config_D_E) if biased else ("none", "none")
        rows, columns = place.outputs, place.inputs
        return (
            *_path("A", config.config_A_B, config.r, (rows, columns)),
            *_path("B", config.config_A_B, config.r, (rows, columns)),
            *_path("C", inner, config.r, (columns, 1)),
            *_path("D", outer, config.r, (rows,)),
            *_path("E", outer, config.r, (rows,)),
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        random = not cast("PeftGlora", config).init_weights
        for name, tensor in tensors.items():
            if name.endswith("_none") or not (random or name.endswith("_up")):
                nn.init.zeros_(tensor)
            elif len(tensor) == tensor.numel() == 1:
                nn.init.normal_(tensor, std=0.02, generator=generator)
            else:
                whole = tensor.unsqueeze(0) if tensor.dim() == 1 else tensor
                nn.init.kaiming_uniform_(whole, a=math.sqrt(5), generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        weight = weight_of(seen.layer)
        output = output + functional.linear(seen.x, self._weight(weight).to(seen.x.dtype))
        return output if seen.bias is None else output + self._bias(weight, seen.bias).to(output.dtype)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return weight + self._weight(weight), None if bias is None else bias + self._bias(weight, bias)

    def _weight(self, weight: Tensor) -> Tensor:
        return weight * self._value("A") + self._value("B")

    def _bias(self, weight: Tensor, bias: Tensor) -> Tensor:
        return bias * self._value("D") + self._value("E") + (weight @ self._value("C")).squeeze(-1)

    def _value(self, path: str) -> Tensor:
        if f"{path}_up" in self.names:
            return self[f"{path}_down"] @ self[f"{path}_up"]
        return self[f"{path}_none" if f"{path}_none" in self.names else path]


def _path(path: str, kind: str, rank: int, shape: tuple[int, ...]) -> tuple[Slot, ...]:
    file = f"glora_{path}."
    if kind == "lora":
        return (
            Slot(f"{path}_down", f"{file}Xd", (shape[0], rank)),
            Slot(f"{path}_up", f"{file}Xu", (rank, *shape[1:])),
        )
    if kind == "none":
        return (Slot(f"{path}_none", f"{file}zeros", shape),)
    vector = (shape[0], *(1 for _ in shape[1:]))
    return (Slot(path, f"{file}X", vector if kind == "vector" else (1,)),)
