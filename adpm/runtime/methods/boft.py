"""BOFT: the layer's input is turned by a product of sparse orthogonal matrices, and its output scaled.

    y = s * ((x R) W^T) + b            R = P_n B_n P_n^T ... P_1 B_1 P_1^T,  s: out
    B_i block-diagonal, blocks (I + K)^-1 (I - K) with K = (D - D^T) / 2 and D: b x b from the file

P_i permutes the features so that blocks meet in a butterfly; it is the identity where there is one factor only. The
peer has one factor wherever its CUDA extension was not built, whatever the config says: what the file holds counts.
Sources: Liu et al. 2024 (2311.06243); ``peft`` 0.21.2, ``tuners/boft/layer.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftBoft
from adpm.runtime.methods.layer import Folded, MethodPart, Place, Seen, Tensors, misfit

__all__ = ["BoftPart"]


class BoftPart(MethodPart):
    """Slots: ``R``, [factors, blocks, b, b], and ``s``, [out, 1], of a convolution [1, out]."""

    CONVOLVED = (nn.Conv2d,)

    def setup(self, config: PeftMethod) -> None:
        config = cast("PeftBoft", config)
        self.dropout = config.boft_dropout
        factors, (blocks, size) = config.boft_n_butterfly_factor, _blocks(config, self.place)
        self.orders = [_butterfly(blocks, size, factor) for factor in range(factors)] if factors > 1 else []

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftBoft", config)
        blocks, size = _blocks(config, place)
        return (
            Slot("R", "boft_R", (config.boft_n_butterfly_factor, blocks, size, size)),
            Slot("s", "boft_s", (1, place.outputs) if place.kernel else (place.outputs, 1)),
        )

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftBoft", config).init_weights:
            nn.init.zeros_(tensors["R"])
            nn.init.ones_(tensors["s"])
        else:
            nn.init.normal_(tensors["R"], std=0.1, generator=generator)
            nn.init.normal_(tensors["s"], mean=1.0, std=0.1, generator=generator)

    @property
    def folds(self) -> bool:
        return bool(self.place.kernel)

    @property
    def moves_input(self) -> bool:
        return not self.folds

    def before(self, x: Tensor) -> Tensor:
        turns = self._turns()
        for number in range(len(turns) - 1, -1, -1):
            x = self._turn(x, turns[number], number)
        return x

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        scale, bias = self["s"].view(-1), seen.bias
        return output * scale if bias is None else (output - bias) * scale + bias

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return weight * self["s"].view(-1, 1), bias

    def _turn(self, x: Tensor, turn: Tensor, number: int) -> Tensor:
        """x P B P^T, where column j of P has its one in row order[j]'s place."""
        if not self.orders:
            return _by_blocks(x, turn)
        order = self.orders[number].to(x.device)
        moved = _by_blocks(x[..., torch.argsort(order)], turn)
        return moved[..., order]

    def _turns(self) -> Tensor:
        """The blocks of every factor. Shape: factors x blocks x b x b."""
        data = self["R"]
        wide = data.float() if data.dtype in (torch.float16, torch.bfloat16) else data
        skew = 0.5 * (wide - wide.transpose(-1, -2))
        one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device).expand_as(skew)
        turns = torch.linalg.solve(one + skew, one - skew, left=False)
        if self.dropout and self.training and turns.shape[0] * turns.shape[1] > 1:
            flat = turns.flatten(0, 1)
            dropped = torch.randperm(len(flat), device=flat.device) < int(self.dropout * len(flat))
            turns = torch.where(dropped.view(-1, 1, 1), one.flatten(0, 1), flat).view_as(turns)
        out: Tensor = turns.to(data.dtype)
        return out


def _by_blocks(x: Tensor, turn: Tensor) -> Tensor:
    blocks = x.reshape(*x.shape[:-1], *turn.shape[:2])
    return torch.einsum("...nk,nkc->...nc", blocks, turn.to(x.dtype)).reshape(x.shape)


def _blocks(config: PeftBoft, place: Place) -> tuple[int, int]:
    """(blocks, size of a block)."""
    given = config.boft_block_size or config.boft_block_num
    if place.inputs % given:
        raise misfit(place, f"{given} does not divide its input")
    other = place.inputs // given
    blocks, size = (other, given) if config.boft_block_size else (given, other)
    deepest = 2 ** (config.boft_n_butterfly_factor - 1)
    if deepest > 1 and (blocks % deepest or size % 2):
        raise misfit(place, f"{config.boft_n_butterfly_factor} butterfly factors need other blocks than {blocks}")
    return blocks, size


def _butterfly(blocks: int, size: int, level: int) -> Tensor:
    """The order of features under which the blocks of factor ``level`` lie together."""
    width, wing = blocks * size, size // 2
    count = blocks // 2**level
    span = width // count
    steps = torch.arange(span // wing)
    moved = torch.cat((steps[0::2], steps[1::2]))
    inside = (moved.view(-1, 1) * wing + torch.arange(wing)).flatten()
    out: Tensor = (torch.arange(count).view(-1, 1) * span + inside).flatten()
    return out
