"""OFT: the layer's input, block by block, is turned by an orthogonal matrix.

    y = (x R) W^T + b                R: block-diagonal, n blocks of b x b
    R_i = (I + Q_i)^-1 (I - Q_i), with ``use_cayley_neumann`` I + 2 (Q + ... + Q^(t-2)) + Q^(t-1) for t terms
    Q_i = U_i - U_i^T, with U_i the strictly upper triangle that the file holds, row by row

``block_share``: one block for all. ``coft``: Q is first moved within eps / sqrt(n) of 0. On an embedding the output is
turned. On a convolution each patch of x, wherever in x it lies, is turned, and they are added up where they overlap, as
the peer does, so that no weight says the same. Sources: Qiu et al. 2023 (2306.07280), 2025 (2506.19847); ``peft``
0.21.2, ``tuners/oft/layer.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft_keys import PeftMethod
from adpm.formats.peft_linear import PeftOft
from adpm.runtime.methods.layer import MethodPart, Place, Seen, Tensors

__all__ = ["OftPart"]


class OftPart(MethodPart):
    """Slot: ``R``, [blocks, b (b - 1) / 2]."""

    CONVOLVED = (nn.Conv2d,)
    EMBEDDED = True

    def setup(self, config: PeftMethod) -> None:
        self.config = cast("PeftOft", config)
        self.turns_output = isinstance(self.place.module, nn.Embedding)
        self.blocks, self.size = _blocks(self.config, self.place)

    @classmethod
    def slots(cls, config: PeftMethod, place: Place) -> tuple[Slot, ...]:
        config = cast("PeftOft", config)
        blocks, size = _blocks(config, place)
        file = "oft_embedding_R.weight" if isinstance(place.module, nn.Embedding) else "oft_R.weight"
        return (Slot("R", file, (1 if config.block_share else blocks, size * (size - 1) // 2)),)

    @classmethod
    def start(cls, config: PeftMethod, _place: Place, tensors: Tensors, generator: Generator | None) -> None:
        if cast("PeftOft", config).init_weights:
            nn.init.zeros_(tensors["R"])
        else:
            nn.init.normal_(tensors["R"], std=0.1, generator=generator)

    @property
    def moves_input(self) -> bool:
        return not self.turns_output

    @property
    def first_moves_first(self) -> bool:
        return True

    def before(self, x: Tensor) -> Tensor:
        if self.place.kernel:
            patches = self._turn(functional.unfold(x, self.place.kernel).transpose(1, 2))
            return functional.fold(patches.transpose(1, 2), x.shape[2:], self.place.kernel)
        return x if self.turns_output else self._turn(x)

    def fold_input(self, weight: Tensor) -> Tensor:
        if self.place.kernel:
            raise AdapterError("method-unsupported", f"what turns the patches of {self.layer} adds them up")
        return super().fold_input(weight)

    def after(self, seen: Seen, output: Tensor) -> Tensor:  # noqa: ARG002 - the output alone is turned
        return self._turn(output) if self.turns_output else output

    def _turn(self, x: Tensor) -> Tensor:
        blocks = x.reshape(*x.shape[:-1], self.blocks, self.size)
        return torch.einsum("...nk,nkc->...nc", blocks, self._rotation().to(x.dtype)).reshape(x.shape)

    def _rotation(self) -> Tensor:
        """R's blocks. Shape: blocks x b x b."""
        upper = self["R"]
        q = upper.new_zeros(len(upper), self.size, self.size)
        rows, columns = torch.triu_indices(self.size, self.size, 1, device=upper.device)
        q[:, rows, columns] = upper
        q = q - q.transpose(1, 2)
        if self.config.coft:
            bound = self.config.eps / math.sqrt(len(q))
            norm = q.norm(dim=(1, 2), keepdim=True)
            q = torch.where(norm <= bound, q, q * (bound / norm))
        turn = _neumann(q, self.config.num_cayley_neumann_terms) if self.config.use_cayley_neumann else _cayley(q)
        return turn.expand(self.blocks, -1, -1) if self.config.block_share else turn


def _neumann(q: Tensor, terms: int) -> Tensor:
    turn = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device).expand_as(q)
    if terms > 1:
        turn = turn + 2 * q
    if terms > 2:
        power = q @ q
        turn = turn + 2 * power
        for _ in range(3, terms - 1):
            power = power @ q
            turn = turn + 2 * power
        turn = turn + power @ q
    return turn


def _cayley(q: Tensor) -> Tensor:
    wide = q.float() if q.dtype in (torch.float16, torch.bfloat16) else q
    one = torch.eye(q.shape[-1], dtype=wide.dtype, device=q.device).expand_as(wide)
    out: Tensor = torch.linalg.solve(one + wide, one - wide, left=False).to(q.dtype)
    return out


def _blocks(config: PeftOft, place: Place) -> tuple[int, int]:
    """(blocks, size of a block); what does not divide the input is replaced by the closest divisor, as in the peer."""
    width = place.outputs if isinstance(place.module, nn.Embedding) else place.inputs
    if config.oft_block_size:
        size = _divisor(width, config.oft_block_size)
        return width // size, size
    blocks = _divisor(width, config.r)
    return blocks, width // blocks


def _divisor(width: int, wanted: int) -> int:
    """The divisor of ``width`` closest to ``wanted``, the smaller of two as close."""
    if wanted >= width:
        return width
    below = next(number for number in range(wanted, 0, -1) if width % number == 0)
    above = next(number for number in range(wanted, width + 1) if width % number == 0)
    return below if wanted - below <= above - wanted else above
