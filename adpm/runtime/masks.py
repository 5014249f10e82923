"""What hides and what shows the columns of a prefix before an attention's own."""

from __future__ import annotations

import torch
from torch import Tensor

from adpm.runtime.prefixes import FILLED, HIDDEN, Front

__all__ = ["counted", "scores_of"]


def counted(front: Front, past: int, x: Tensor) -> Tensor:
    """The causal mask that a missing one stands for, which counts columns from the prefix's beginning, as in the peer.

    Shape: rows or 1 x 1 x positions x columns.
    """
    length = x.shape[1]
    columns = torch.arange(front.count + past + length, device=x.device)
    here = torch.arange(length, device=x.device)[:, None]
    if front.kinds is None:
        return (columns <= here)[None, None]
    begin = (front.kinds == HIDDEN).sum(dim=1)[:, None, None, None]
    return columns <= here + begin


def scores_of(front: Front, own: float, filled: float, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of ``front``'s columns; None for nothing. Shape: rows x 1 x 1 x n."""
    if front.kinds is None and own == 0:
        return None
    kinds = front.all_kinds()
    lowest = torch.finfo(dtype).min
    scores = torch.full(kinds.shape, own, dtype=dtype, device=kinds.device)
    scores = scores.masked_fill(kinds == FILLED, max(filled, lowest)).masked_fill(kinds == HIDDEN, lowest)
    return scores[:, None, None, :]
