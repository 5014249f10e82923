"""MiSS: one small matrix for all groups of r inputs.

    y + (sum over groups g of drop(x)[g]) S        S: r x out; x is filled up with zeros to whole groups
    mini     S is given as r x mini_r and repeated along out
    bat      W is cut into W[i, a, j, :] (row i r + a, columns j r ... j r + r - 1), and the change is
             D[i, a, j, :] = W[i, a, j, :] S_i + S_i[a, :]        S: out / r x r x r

Sources: Kang et al. 2024 (2409.15371);
``peft`` 0.21.2, ``tuners/miss/layer.py``.
"""

from __future__ import annotations

from typing import cast

from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftMiss
from adpm.runtime.methods.layer import DeltaPart, Place, Seen, Tensors, misfit

__all__ = ["MissPart"]


class MissPart(DeltaPart):
    """Slot: ``block``."""

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftMiss", config)
        self.variant = config.init_weights
        self.dropout = 0.0 if self.variant == "bat" else config.miss_dropout  # as the peer

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftMiss", config)
        rank, shape = config.r, (config.r, place.outputs)
        if rank > place.inputs:
            raise misfit(place, f"r = {rank} is more than its inputs")
        if config.init_weights == "bat":
            if place.inputs % rank or place.outputs % rank:
                raise misfit(place, f"'bat' needs r = {rank} to divide inputs and outputs")
            return (Slot("block", "miss_block", (place.outputs // rank, rank, rank)),)
        if config.init_weights == "mini":
            if place.outputs % config.mini_r:
                raise misfit(place, f"mini_r = {config.mini_r} does not divide its outputs")
            shape = (rank, config.mini_r)
        return (Slot("block", "miss_block", shape),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftMiss", config).init_weights:
            nn.init.zeros_(tensors["block"])
        else:
            nn.init.normal_(tensors["block"], generator=generator)

    @property
    def folds(self) -> bool:
        """What "bat" does to the weight depends on what others did to it."""
        return self.variant == "bat"

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        block = self._block()
        x = functional.dropout(seen.x, self.dropout) if self.dropout and self.training else seen.x
        x = functional.pad(x, (0, -x.shape[-1] % len(block)))
        groups = x.reshape(*x.shape[:-1], -1, len(block))
        return output + groups.sum(-2) @ block

    def delta(self, weight: Tensor) -> Tensor:
        if self.variant != "bat":
            block = self._block()
            return block.T.repeat(1, -(-self.place.inputs // len(block)))[:, : self.place.inputs]
        block = self["block"]
        rank = block.shape[-1]
        cut = weight.reshape(len(weight) // rank, rank, -1, rank).permute(2, 0, 1, 3)  # j, i, a, column
        return (cut @ block + block).permute(1, 2, 0, 3).reshape(weight.shape)

    def _block(self) -> Tensor:
        block = self["block"]
        return block.repeat(1, self.place.outputs // block.shape[1]) if self.variant == "mini" else block
