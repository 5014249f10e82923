"""Masks of an attention that has a prefix: which columns more they have, and what is added to their scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.runtime.prefixes import FILLED, HIDDEN, Front

__all__ = ["counted", "is_eager", "longer_mask", "opens", "scores_of", "with_scores"]


def is_eager(module: nn.Module) -> bool:
    return getattr(getattr(module, "config", None), "_attn_implementation", None) == "eager"


def opens(mask: Tensor) -> int:
    """What lets through in ``mask``."""
    return 1 if mask.dtype == torch.bool or mask.dim() == 2 else 0


def longer_mask(mask: Tensor, count: int) -> Tensor:
    """``count`` columns more, and rows where the mask has any, at the front."""
    rows = (count, 0) if mask.dim() > 2 and mask.shape[-2] > 1 else (0, 0)
    return functional.pad(mask, (count, 0, *(rows if mask.dim() > 2 else ())), value=opens(mask))


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


def with_scores(mask: Tensor, scores: Tensor, x: Tensor) -> Tensor:
    """``mask`` with ``scores`` in its first columns; one of ones and zeros shows what has a score."""
    count, lowest = scores.shape[-1], torch.finfo(x.dtype).min
    if mask.dim() == 2:
        seen = (scores[:, 0, 0] > lowest).to(mask.dtype)
        return torch.cat((mask[:, :count] * seen, mask[:, count:]), dim=1)
    if mask.dtype == torch.bool:
        mask = x.new_zeros(mask.shape).masked_fill(~mask, lowest)
    mask = mask.expand(len(x), -1, -1, -1)
    front = torch.maximum(mask[..., :count] + scores, mask.new_tensor(lowest))
    return torch.cat((front, mask[..., count:]), dim=-1)
