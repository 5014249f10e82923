"""The arguments of a model's forward pass by their names, and how virtual tokens before a sequence change them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

__all__ = ["CACHES", "OUTPUT_CACHE", "Call", "cache_of", "cached_length", "later", "widen"]

# What transformers calls a cache, the newest name first: models and outputs were renamed in 5.24.
CACHES: Final = ("cache", "past_key_values", "past_key_value", "layer_past")
# What it is called in outputs, which since then log a warning when they are asked for the other one.
OUTPUT_CACHE: Final = next(word for word in CACHES if word in CausalLMOutputWithPast.__dataclass_fields__)

_POSITIONS: Final = ("position_ids", "cache_position")


class Call:
    """Turns positional arguments of ``module`` into named ones. ``cache``: what it calls a cache, if it takes one."""

    def __init__(self, module: nn.Module) -> None:
        self.names = tuple(inspect.signature(module.forward).parameters)
        self.cache = next((word for word in CACHES if word in self.names), None)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name; a cache by the module's own name for it."""
        found = {**dict(zip(self.names, args, strict=False)), **kwargs}
        if self.cache is None or self.cache in found:
            return found
        return {self.cache if name in CACHES else name: value for name, value in found.items()}


def cache_of(kwargs: Mapping[str, Any]) -> Any:
    """The cache among ``kwargs``; None where there is none."""
    return next((kwargs[word] for word in CACHES if kwargs.get(word) is not None), None)


def cached_length(kwargs: Mapping[str, Any]) -> int:
    """How many tokens the call's cache holds already; 0 where there is none."""
    cache = cache_of(kwargs)
    return 0 if cache is None else int(cache.get_seq_length())


def widen(kwargs: dict[str, Any], name: str, count: int, value: int) -> None:
    """Put ``count`` columns of ``value`` before a 2-dimensional argument, if it is there."""
    found = kwargs.get(name)
    if isinstance(found, Tensor) and found.dim() == 2:
        kwargs[name] = torch.cat((found.new_full((len(found), count), value), found), dim=1)


def later(kwargs: dict[str, Any], count: int, mask: str) -> dict[str, Any]:
    """The arguments of a later step of generation, whose cache holds ``count`` virtual tokens that nobody counted."""
    widen(kwargs, mask, count, 1)
    for name in _POSITIONS:
        if isinstance(kwargs.get(name), Tensor):
            kwargs[name] = kwargs[name] + count
    return kwargs
