"""The arguments of a model's forward pass by their names, and how virtual tokens before a sequence change them."""

from __future__ import annotations

import inspect
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

__all__ = ["CACHE", "Call", "cached_length", "later", "widen"]

_BEFORE: Final = "past_key_values"
# What transformers calls the cache of keys and values, as an argument and in outputs: the other one before 5.24.
CACHE: Final = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else _BEFORE
_POSITIONS: Final = ("position_ids", "cache_position")


class Call:
    """Turns positional arguments of ``module`` into named ones."""

    def __init__(self, module: nn.Module) -> None:
        self.names = tuple(inspect.signature(module.forward).parameters)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        found = {**dict(zip(self.names, args, strict=False)), **kwargs}
        if _BEFORE in found and _BEFORE not in self.names and CACHE in self.names:  # transformers takes both yet
            found[CACHE] = found.pop(_BEFORE)
        return found


def cached_length(kwargs: dict[str, Any]) -> int:
    """How many tokens the call's cache holds already; 0 where there is none."""
    cache = kwargs.get(CACHE)
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
