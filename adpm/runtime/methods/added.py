"""Changes, and how they are added to what they change."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["added", "low_rank"]


def added(output: Tensor, change: Tensor) -> Tensor:
    """``output`` + ``change``, in the memory of ``change``, which nothing else may want, where no gradient needs it."""
    kept = output.requires_grad or change.requires_grad
    if kept or output.dtype != change.dtype or output.shape != change.shape:
        return output + change
    return change.add_(output)


def low_rank(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """(scale * x A^T) B^T. Shapes: x is ... x in, A r x in, B out x r; scaled where it is smallest."""
    inner = functional.linear(x, a)
    return functional.linear(inner if scale == 1.0 else inner * scale, b)
