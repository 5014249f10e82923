"""Prefixes in an attention that takes no cache (DistilBERT, ViT, BEiT, CLIP): as many positions more at its front.

Its projections, and what adapters do to them, see the text alone: the prefix is put before what comes out of them. What
the attention gives at its positions is cut off.
Source: ``adapters`` 1.3.0, ``methods/prefix_tuning.py`` and ``models/*/modeling_*.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.calls import Call
from adpm.runtime.methods.masking import is_eager, longer_mask, with_scores
from adpm.runtime.prefixes import Run, scores_of

__all__ = ["ADDED", "Longer", "TextAlone", "before"]

_INPUTS: Final = ("hidden_states", "query", "key", "value")
# Added to the scores, positions x positions: what a module without a cache may get.
ADDED: Final = ("attention_mask", "mask", "causal_attention_mask", "relative_position_bias", "position_bias")


class Longer:
    """Around an attention module without a cache: as many positions more as there are columns."""

    def __init__(self, run: Run, call: Call, mask: str | None, model_type: str) -> None:
        self.run, self.call, self.mask, self.model_type = run, call, mask, model_type
        self.keys, self.values, self.count, self.bias = Capture(), Capture(), Capture(), Capture()
        self.bias_sizes = Capture()
        self.asked = Capture()  # whether the queries are still to come

    def linear_acts(self, linears: Mapping[str, str]) -> Iterator[Act]:
        """The hooks on the projections: ``linears`` are their names by "q", "k" and "v"."""
        steps = (
            ("q", self.asked, self.after_queries),
            ("k", self.keys, self.after_keys),
            ("v", self.values, self.after_values),
        )
        for word, waiting, after in steps:
            if word in linears:
                yield Act(Point(linears[word], "before"), TextAlone(self, waiting), Order.FIRST)
                yield Act(Point(linears[word], "after"), after, Order.SUBLAYER)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = self.call.named(args, kwargs)
        x = named[self.call.names[0]]
        front = self.run(x, None)
        if front is None:
            return None
        self.keys.put(front.keys)
        self.values.put(front.values)
        self.count.put(front.count)
        self.asked.put(True)
        self.bias.put((front.count, len(x)))
        masks = [word for word in ADDED if isinstance(named.get(word), Tensor)]
        causal = bool(named.get("is_causal")) and not masks
        scores = scores_of(front, *self._filled(module, given=bool(masks) or causal), x.dtype)
        for word in masks:
            named[word] = longer_mask(named[word], front.count)
        if not masks and scores is not None and self.mask is not None:
            whole = torch.ones(2 * (front.count + x.shape[1],), dtype=torch.bool, device=x.device)
            named[self.mask] = (whole.tril() if causal else whole)[None, None]
            masks = [self.mask]
        if masks and scores is not None:
            named[masks[0]] = with_scores(named[masks[0]], scores, x)
        longer = functional.pad(x, (0, 0, front.count, 0))
        inputs: dict[str, Any] = {word: longer for word in _INPUTS if word in self.call and word in named}
        return (), {**named, **inputs}

    def _filled(self, module: nn.Module, *, given: bool) -> tuple[float, float]:
        """What the peer adds to the scores of a prefix, and of what it is filled up with.

        DistilBERT's eager mask is one of ones and zeros, and always there; under SDPA it is added, and the peer's
        prefix gets a one.
        """
        if self.model_type == "distilbert" and is_eager(module):
            return 0.0, -torch.inf
        if self.model_type in ("vit", "beit") or not given:
            return 0.0, 0.0
        return (1.0, 0.0) if self.model_type == "distilbert" else (0.0, 1.0)

    def after_queries(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:  # noqa: ARG002 - a hook's
        return functional.pad(output, (0, 0, self.count.see(), 0)) if self.asked.take() else None

    def after_keys(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:  # noqa: ARG002 - a hook's
        return before(output, self.keys.take())

    def after_values(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:  # noqa: ARG002 - a hook's
        return before(output, self.values.take())

    def before_bias(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        """BEiT's own bias in transformers 4 is asked for the size that it would interpolate to."""
        sizes = self.bias.take()
        self.bias_sizes.put(sizes)
        return args, {**kwargs, "dim_size": kwargs["dim_size"] - sizes[0]} if sizes else kwargs

    def after_bias(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        """One for each row: what hides positions in some of them is added to it in place."""
        sizes = self.bias_sizes.take()
        if sizes is None:
            return output
        count, rows = sizes
        return functional.pad(output, (count, 0, count, 0)).repeat(rows // len(output), 1, 1, 1)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        count = self.count.take()
        if count is None:
            return None
        if isinstance(output, Tensor):
            return output[:, count:]
        weights = (w[:, :, count:] if isinstance(w, Tensor) and w.dim() == 4 else w for w in output[1:])
        return (output[0][:, count:], *weights)


class TextAlone:
    """Before a projection, which gets what is behind the prefix's positions while something is ``waiting`` for it."""

    def __init__(self, longer: Longer, waiting: Capture) -> None:
        self.longer, self.waiting = longer, waiting

    def __call__(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        count = self.longer.count.see()
        if count is None or self.waiting.see() is None:
            return None
        return (args[0][:, count:], *args[1:]), kwargs


def before(output: Tensor, columns: Tensor | None) -> Tensor:
    """``columns``, rows x heads x n x head size, before ``output``, rows x positions x features."""
    if columns is None:
        return output
    return torch.cat((columns.transpose(1, 2).flatten(2).to(output.dtype), output), dim=1)
