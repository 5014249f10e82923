"""aLoRA: LoRA that acts from the adapter's invocation on, so that what a cache holds before it is the bare base's.

    y_t + scale * (drop(x_t) A^T) B^T   for t >= s, else y_t         s: where the last invocation in the row begins

Without an invocation a row is the base's. The pass sees token ids alone: of vectors it can't tell, and does nothing. On
a cache, as in generation, what was invoked stays so: the cache remembers which rows. A pass of one token on a cache
never begins an invocation; in the peer what is generated does not either.

Source: Greenewald et al. 2025 (2504.12397); ``peft`` 0.21.2, ``tuners/lora/variants.py`` (``ALoraLinearVariant``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.calls import Call, cache_of, cached_length
from adpm.runtime.methods.hooked import WatchingPart
from adpm.runtime.methods.layer import Folded, LayerPart, Seen
from adpm.runtime.methods.low_rank import LowRankPart

__all__ = ["INVOCATION", "ActivatedPart", "InvocationPart"]

INVOCATION: Final = "invocation"  # the key of the part that looks for it
_ON_CACHE: Final = "_adpm_invoked"  # what a cache remembers: which rows, by the invocation


class InvocationPart(WatchingPart):
    """Looks for the invocation in the tokens of a pass. ``active``: how many of each row's last positions it is active
    in. Shape: rows. Counted from the end, for virtual tokens may stand before the text."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], tokens: tuple[int, ...]) -> None:
        super().__init__(adapter, names)
        self.tokens = tokens
        self.active = Capture()

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        yield Act(Point("", "before"), _Look(self, Call(anatomy.model)), Order.SEE)

    def find(self, ids: Tensor, cache: Any, past: int) -> Tensor:
        """``active`` for the tokens ``ids``, rows x positions, behind the ``past`` ones that ``cache`` holds."""
        rows, length = ids.shape
        active = ids.new_zeros(rows)
        if length >= len(self.tokens) and not (past and length == 1):
            wanted = torch.tensor(self.tokens, device=ids.device)
            hits = (ids.unfold(1, len(self.tokens), 1) == wanted).all(dim=-1)
            last = (hits * torch.arange(1, hits.shape[1] + 1, device=ids.device)).amax(dim=1)
            active = torch.where(last > 0, length + 1 - last, active)
        if cache is None:
            return active
        known: dict[tuple[int, ...], Tensor] = getattr(cache, _ON_CACHE, {})
        before = known.get(self.tokens)
        if past and before is not None and len(before) == rows:
            active = torch.where(before & (active == 0), length, active)
        setattr(cache, _ON_CACHE, {**known, self.tokens: active > 0})
        return active


class _Look:
    """Before the model: its token ids and its cache."""

    def __init__(self, part: InvocationPart, call: Call) -> None:
        self.part, self.call = part, call

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        named = self.call.named(args, kwargs)
        ids = named.get("input_ids")
        found = self.part.find(ids, cache_of(named), cached_length(named)) if ids is not None else None
        self.part.active.put(found)


class ActivatedPart(LowRankPart):
    """The change of one linear layer. Slots as LoRA's."""

    watches_rows = True

    @property
    def is_plain(self) -> bool:
        return False

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        invocation = self._parts[INVOCATION]
        active = invocation.active.see() if isinstance(invocation, InvocationPart) else None
        if active is None:
            return output
        rows, length = seen.x.shape[:2]
        # Under parallel the batch stands there several times.
        active = active.repeat(rows // len(active)) if seen.rows is None else active[seen.rows % len(active)]
        here = torch.arange(length, 0, -1, device=seen.x.device) <= active.unsqueeze(1)
        changed: Tensor = output + self.delta(seen.x, seen.x) * here.unsqueeze(-1)
        return changed

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:
        return LayerPart.fold_output(self, weight, bias)
