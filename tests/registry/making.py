"""Releases to publish, of ``adpm.testing``, under the name by which the tests know them."""

from __future__ import annotations

from adpm.testing.making import BASE, NOW, make, make_card

__all__ = ["BASE", "NOW", "make", "make_card"]
