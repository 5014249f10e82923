"""Masks of an attention that has virtual tokens: which columns more they have, and what is added to their scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["is_eager", "longer_mask", "opens", "with_scores"]


def is_eager(module: nn.Module) -> bool:
    return getattr(getattr(module, "config", None), "_attn_implementation", None) == "eager"


def longer_mask(mask: Tensor, count: int) -> Tensor:
    """``count`` columns more, and rows where the mask has any, at the front."""
    rows = (count, 0) if mask.dim() > 2 and mask.shape[-2] > 1 else (0, 0)
    return functional.pad(mask, (count, 0, *(rows if mask.dim() > 2 else ())), value=opens(mask))


def opens(mask: Tensor) -> int:
    """What lets through in ``mask``."""
    return 1 if mask.dtype == torch.bool or mask.dim() == 2 else 0


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
