"""adpm: a git-like, decentralised package manager and runtime for transformer adapters."""

from __future__ import annotations

__version__ = "0.1.0"
