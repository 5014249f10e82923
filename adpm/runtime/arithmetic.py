"""Several tensors of one shape to one: the sums that merge adapters.

    linear            sum_i w_i t_i
    magnitude_prune   the same, of each t_i only the share ``density`` of its values that is largest in magnitude
    dare_linear       the same, of each t_i a random share ``density``, scaled by 1 / density
    ties              pruned by magnitude; at each place the sign of the sum (or of most) is elected, and the result is
                      the mean of w_i t_i over those that have it
    dare_ties         ties, pruned at random

Sources: Ilharco et al. 2023, Yadav et al. 2023, https://arxiv.org/abs/2306.01708, Yu et al. 2024,
https://arxiv.org/abs/2311.03099; ``peft`` 0.21.2, ``utils/merge_utils.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Generator, Tensor

from adpm.errors import UsageError

__all__ = ["SUMS", "Rule", "factors"]

SUMS: Final = ("linear", "magnitude_prune", "ties", "dare_linear", "dare_ties")


@dataclass(frozen=True)
class Rule:
    """One of ``SUMS`` with its settings. ``density`` is between 0 and 1; a sum without pruning ignores it."""

    kind: str
    density: float = 1.0
    majority: Literal["total", "frequency"] = "total"
    generator: Generator | None = None

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1 or self.majority not in ("total", "frequency"):
            raise UsageError(
                "merge-invalid",
                f"density {self.density} with majority {self.majority!r} is no setting of a merge",
                hint='density is above 0 and at most 1, majority is "total" or "frequency"',
            )

    def merge(self, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """The sum of ``tensors``, in their dtype."""
        stack = torch.stack([self._pruned(tensor) for tensor in tensors])
        weighed = stack * torch.tensor(weights, dtype=stack.dtype, device=stack.device).view(
            -1, *(1,) * tensors[0].dim()
        )
        if not self.kind.endswith("ties"):
            return weighed.sum(0)
        elected = (stack if self.majority == "total" else stack.sign()).sum(0)
        kept = stack.sign() == torch.where(elected >= 0, 1, -1)
        return (weighed * kept).sum(0) / kept.sum(0).clamp(min=1)

    def _pruned(self, tensor: Tensor) -> Tensor:
        if self.density >= 1 or self.kind == "linear":
            return tensor
        if self.kind.startswith("dare"):
            chance = torch.full_like(tensor, self.density)
            return tensor * torch.bernoulli(chance, generator=self.generator) / self.density
        flat = torch.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        flat[tensor.abs().flatten().topk(int(self.density * tensor.numel())).indices] = 1
        return tensor * flat.view_as(tensor)


def factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(A, B) with B A the nearest to ``matrix`` (out x in) of this rank. A: rank x in, B: out x rank; A's rows are
    orthonormal. Missing ranks are zeros."""
    u, s, v = torch.linalg.svd(matrix.float(), full_matrices=False)
    a, b = v[:rank], u[:, :rank] * s[:rank]
    more = rank - len(a)
    a, b = torch.nn.functional.pad(a, (0, 0, 0, more)), torch.nn.functional.pad(b, (0, more))
    return a.to(matrix.dtype), b.to(matrix.dtype)
