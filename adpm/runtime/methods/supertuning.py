"""Super-Tuning: the weights of the greatest size are changed, or of the smallest, and with a rank a LoRA beside them.

    D = S + (alpha / r) B A        S: out x in, v_k at the k-th of n places counted by rows; A: r x in, B: out x r

n is the share 1 - sparsity of all weights, rounded down. Places are in the file, or found in the base's weight again.
Sources: 2607.09287; ``peft`` 0.21.2, ``tuners/supertuning/layer.py``.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftSupertuning
from adpm.runtime.methods.layer import DeltaPart, Place, Seen, Tensors, misfit, weight_of

__all__ = ["SupertuningPart"]


class SupertuningPart(DeltaPart):
    """Slots: ``values``, ``places`` unless they are found again, ``A`` and ``B`` with ``r``."""

    FROZEN: ClassVar[frozenset[str]] = frozenset({"places"})

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftSupertuning", config)
        self.lora_dropout = config.lora_dropout
        rank = config.r or 1
        self.scale = (2 * rank if config.lora_alpha is None else config.lora_alpha) / rank
        self.found = None if config.save_precomputed_indices else _places(config, self.place)

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftSupertuning", config)
        count = _count(config, place)
        if not count:
            raise misfit(place, f"sparsity {config.sparsity} leaves none of its weights")
        slots = [Slot("values", "supertuning_values", (count,))]
        if config.save_precomputed_indices:
            slots.append(Slot("places", "supertuning_indices", (count,), below=(place.inputs * place.outputs,)))
        if config.r is not None:
            slots.append(Slot("A", "supertuning_lora_A.weight", (config.r, place.inputs)))
            slots.append(Slot("B", "supertuning_lora_B.weight", (place.outputs, config.r)))
        return tuple(slots)

    @classmethod
    def start(cls, config: PeftMethod, place: Place, tensors: Tensors, generator: Generator | None) -> None:
        config = cast("PeftSupertuning", config)
        if "places" in tensors:
            tensors["places"].copy_(_places(config, place))
        if "A" in tensors:
            nn.init.kaiming_uniform_(tensors["A"], a=math.sqrt(5), generator=generator)
        if config.init_weights:
            for name in tensors.keys() & {"values", "B"}:
                nn.init.zeros_(tensors[name])
            return
        nn.init.normal_(tensors["values"], generator=generator)
        if "B" in tensors:
            nn.init.kaiming_uniform_(tensors["B"], a=math.sqrt(5), generator=generator)

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        """Dropout is for the LoRA alone."""
        if not (self.lora_dropout and self.training and "A" in self.names):
            return super().after(seen, output)
        dropped = functional.dropout(seen.x, self.lora_dropout)
        output = output + functional.linear(seen.x, self._sparse().to(seen.x.dtype))
        return output + functional.linear(functional.linear(dropped, self["A"]), self["B"]) * self.scale

    def delta(self, weight: Tensor) -> Tensor:  # noqa: ARG002 - D does not depend on W
        return self._sparse() + (self["B"] @ self["A"] * self.scale if "A" in self.names else 0.0)

    def _sparse(self) -> Tensor:
        values = self["values"]
        places = self["places"].long() if self.found is None else self.found.to(values.device)
        flat = values.new_zeros(self.place.outputs * self.place.inputs).scatter_add(0, places, values)
        return flat.view(self.place.outputs, self.place.inputs)


def _count(config: PeftSupertuning, place: Place) -> int:
    return int(place.inputs * place.outputs * (1 - config.sparsity))


def _places(config: PeftSupertuning, place: Place) -> Tensor:
    """Where the weights of the greatest or the smallest size are, n whole numbers."""
    sizes = weight_of(place.module).detach().abs().flatten()
    return torch.topk(sizes, _count(config, place), largest=config.select_top).indices
