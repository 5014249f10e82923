"""The contract of ``adpm.testing``, under the name by which the backends' tests know it."""

from __future__ import annotations

from adpm.testing import NAME, Pair, ReadContract, ReadOnlyContract, WriteContract

__all__ = ["NAME", "Pair", "ReadContract", "ReadOnlyContract", "WriteContract"]
