"""What the layers of one adapter share and never train: random projections (VeRA, RandLoRA)."""

from __future__ import annotations

from adpm.runtime.part import Part

__all__ = ["FrozenPart"]


class FrozenPart(Part):
    """Tensors that stay as they started."""

    def make_trainable(self) -> None:
        """Nothing."""
