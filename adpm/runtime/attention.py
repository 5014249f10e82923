"""How prefixes meet an attention: what puts columns before its keys and values, and lets its mask follow.

* *With a cache*: what the module is handed as its cache puts them there: after rotary positions, before the scores.
* *Without one* (DistilBERT, ViT, BEiT, CLIP): the module gets as many positions more at the front; what its projections
  make of them is replaced, and what comes out at them is cut off. Their own rows cost what n tokens cost.

Under SDPA with padding the peer's own prefix is masked out where masks are boolean; here it never is. Source:
``adapters`` 1.3.0, ``methods/prefix_tuning.py`` and ``models/*/modeling_*.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import EncoderDecoderCache

from adpm.errors import AdapterError, CompositionError
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.calls import Call
from adpm.runtime.prefixes import FILLED, HIDDEN, Front, Placed, Run, length_of, run_of, uneven_rows
from adpm.runtime.tree import Chain, leaves_of

__all__ = ["attention_acts", "check_even"]

_MASKS: Final = ("attention_mask", "mask")
_INPUTS: Final = ("hidden_states", "query", "key", "value")
# Added to the scores, positions x positions: what a module without a cache may get.
_ADDED: Final = (*_MASKS, "causal_attention_mask", "relative_position_bias", "position_bias")
_OTHERS: Final = ("key_value_states", "encoder_hidden_states")  # where a cross-attention's keys are from


def attention_acts(name: str, tree: Chain[Placed], anatomy: Anatomy) -> Iterator[Act]:
    """The hooks for ``tree`` at the attention module called ``name``.

    Raises ``AdapterError`` (``family-unsupported``) and ``CompositionError`` (``composition-unsupported``).
    """
    module = anatomy.module(name)
    call = Call(module)
    filling = getattr(getattr(module, "config", anatomy.config), "pad_token_id", None) or 0
    run = run_of(tree, float(filling))
    mask = next((word for word in _MASKS if word in call), None)
    if call.cache is not None and mask is not None:
        across = any(part.targets[place].across for leaf in leaves_of(tree) for part, place in leaf.part)
        yield Act(Point(name, "before"), _Cached(run, call, call.cache, mask, across=across))
        return
    linears = next(dict(site.linears) for site in anatomy.attentions() if site.module == name)
    if not linears.keys() >= {"k", "v"} or "rel_embeddings" in call:
        raise AdapterError(
            "family-unsupported",
            f"adpm can't put a prefix into {name}",
            cause=f"{type(module).__name__} takes no past keys and values, and has no plain ones of its own",
        )
    mask = next((word for word in _ADDED if word in call), None)
    if mask is None and uneven_rows(tree):
        raise CompositionError(
            "composition-unsupported",
            f"rows can't have prefixes of different lengths in {name}",
            cause=f"{type(module).__name__} takes no mask that hides what the shorter ones are filled up with",
            hint="give each prefix rows of its own: activate one at a time",
        )
    longer = _Longer(run, call, mask, anatomy.model_type)
    yield Act(Point(name, "before"), longer.before)
    yield Act(Point(linears["k"], "after"), longer.after_keys, Order.SUBLAYER)
    yield Act(Point(linears["v"], "after"), longer.after_values, Order.SUBLAYER)
    bias = f"{name}.relative_position_bias"
    if bias in anatomy.modules:
        yield Act(Point(bias, "before"), longer.before_bias)
        yield Act(Point(bias, "after"), longer.after_bias)
    yield Act(Point(name, "after"), longer.after)


def check_even(trees: Mapping[str, Chain[Placed]], anatomy: Anatomy) -> None:
    """Raise ``CompositionError`` (``composition-unsupported``) where layers share one bias of positions (T5) that has a
    column for each of a prefix's, and have prefixes of different lengths."""
    lengths: dict[tuple[str, str], int] = {}
    layers = dict(anatomy.layers())
    for site in anatomy.attentions():
        call = Call(anatomy.module(site.module))
        if "position_bias" not in call or call.cache is None:
            continue
        length = length_of(trees.get(site.module))
        stack = layers[site.layer].rsplit(".", 2)[0]
        if lengths.setdefault((stack, site.prefix), length) != length:
            raise CompositionError(
                "composition-unsupported",
                f"the prefix before {site.module} is not as long as those of other layers",
                cause="the layers of this model share the bias of positions that the first one makes",
                hint="use prefixes that leave out no layer, and skip none",
            )


class _Cached:
    """Before an attention module: its cache and its mask."""

    def __init__(self, run: Run, call: Call, cache: str, mask: str, *, across: bool) -> None:
        self.run, self.call = run, call
        self.cache, self.mask, self.across = cache, mask, across

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = self.call.named(args, kwargs)
        first = self.call.names[0]
        x = kwargs[first]
        front = self.run(x, None)
        if front is None:
            return None
        cache, mask = kwargs.get(self.cache), kwargs.get(self.mask)
        if isinstance(cache, EncoderDecoderCache):
            cache = None if self.across else cache.self_attention_cache
        # As in the peer, whose masks are added and get a one there; its eager attention always has one.
        filled = 1.0 if mask is not None or _is_eager(module) else 0.0
        scores = _scores(front, 0.0, filled, x.dtype)
        past = 0 if cache is None else int(cache.get_seq_length(getattr(module, "layer_idx", 0) or 0))
        if mask is None and x.shape[1] > 1 and getattr(module, "is_causal", False):
            mask = _counted(front, past, x)
        elif mask is None and scores is not None:
            other = next((kwargs[word] for word in _OTHERS if isinstance(kwargs.get(word), Tensor)), None)
            columns = past + x.shape[1] if other is None else other.shape[1]
            mask = x.new_zeros(1, 1, 1, front.count + columns)
        elif mask is not None:
            mask = functional.pad(mask, (front.count, 0), value=_open(mask))
        kwargs[self.cache] = _Front(front.keys, front.values, cache)
        kwargs[self.mask] = mask if mask is None or scores is None else _scored(mask, scores, x)
        return (x,), {name: value for name, value in kwargs.items() if name != first}


class _Front:
    """What an attention module takes for its cache: it adds the new keys to the real one, and the prefix before all."""

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, cache: Any) -> None:
        self.keys, self.values, self.cache = keys, values, cache

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *args, **kwargs)
        return torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)

    def get_seq_length(self, *args: Any) -> int:
        return 0 if self.cache is None else int(self.cache.get_seq_length(*args))


class _Longer:
    """Around an attention module without a cache: as many positions more as there are columns."""

    def __init__(self, run: Run, call: Call, mask: str | None, model_type: str) -> None:
        self.run, self.call, self.mask, self.model_type = run, call, mask, model_type
        self.keys, self.values, self.count, self.bias = Capture(), Capture(), Capture(), Capture()
        self.bias_count = Capture()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = self.call.named(args, kwargs)
        x = named[self.call.names[0]]
        front = self.run(x, None)
        if front is None:
            return None
        self.keys.put(front.keys)
        self.values.put(front.values)
        self.count.put(front.count)
        self.bias.put(front.count)
        masks = [word for word in _ADDED if isinstance(named.get(word), Tensor)]
        causal = bool(named.get("is_causal")) and not masks
        scores = _scores(front, *self._filled(module, given=bool(masks) or causal), x.dtype)
        for word in masks:
            named[word] = _longer_mask(named[word], front.count)
        if not masks and scores is not None and self.mask is not None:
            whole = torch.ones(2 * (front.count + x.shape[1],), dtype=torch.bool, device=x.device)
            named[self.mask] = (whole.tril() if causal else whole)[None, None]
            masks = [self.mask]
        if masks and scores is not None:
            named[masks[0]] = _scored(named[masks[0]], scores, x)
        longer = functional.pad(x, (0, 0, front.count, 0))
        inputs: dict[str, Any] = {word: longer for word in _INPUTS if word in self.call and word in named}
        return (), {**named, **inputs}

    def _filled(self, module: nn.Module, *, given: bool) -> tuple[float, float]:
        """What the peer adds to the scores of a prefix, and of what it is filled up with.

        DistilBERT's eager mask is one of ones and zeros; under SDPA it is added, and the peer's prefix gets a one.
        """
        if self.model_type in ("vit", "beit") or not given:
            return 0.0, 0.0
        if self.model_type != "distilbert":
            return 0.0, 1.0
        return (0.0, -torch.inf) if _is_eager(module) else (1.0, 0.0)

    def after_keys(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        return _replaced(output, self.keys.take())

    def after_values(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        return _replaced(output, self.values.take())

    def before_bias(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        """BEiT's own bias in transformers 4 is asked for the size that it would interpolate to."""
        count = self.bias.take()
        self.bias_count.put(count)
        return args, {**kwargs, "dim_size": kwargs["dim_size"] - count} if count else kwargs

    def after_bias(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        count = self.bias_count.take()
        return functional.pad(output, (count, 0, count, 0)) if count else output

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        count = self.count.take()
        if count is None:
            return None
        if isinstance(output, Tensor):
            return output[:, count:]
        weights = (w[:, :, count:] if isinstance(w, Tensor) and w.dim() == 4 else w for w in output[1:])
        return (output[0][:, count:], *weights)


def _is_eager(module: nn.Module) -> bool:
    return getattr(getattr(module, "config", None), "_attn_implementation", None) == "eager"


def _replaced(output: Tensor, columns: Tensor | None) -> Tensor:
    """``output``, rows x positions x features, with ``columns``, rows x heads x n x head size, as its first n."""
    if columns is None:
        return output
    flat = columns.transpose(1, 2).flatten(2)
    return torch.cat((flat.to(output.dtype), output[:, flat.shape[1] :]), dim=1)


def _open(mask: Tensor) -> int:
    """What lets through in ``mask``."""
    return 1 if mask.dtype == torch.bool or mask.dim() == 2 else 0


def _longer_mask(mask: Tensor, count: int) -> Tensor:
    """``count`` columns more, and rows where the mask has any, at the front."""
    rows = (count, 0) if mask.dim() > 2 and mask.shape[-2] > 1 else (0, 0)
    return functional.pad(mask, (count, 0, *(rows if mask.dim() > 2 else ())), value=_open(mask))


def _counted(front: Front, past: int, x: Tensor) -> Tensor:
    """The causal mask that a missing one stands for, which counts columns from the prefix's beginning, as in the peer.

    Shape: rows or 1 x 1 x positions x columns.
    """
    length = x.shape[1]
    columns = torch.arange(front.count + past + length, device=x.device)
    here = torch.arange(length, device=x.device)[:, None]
    if front.kinds is None:
        return (columns <= here)[None, None]
    begin = (front.kinds == HIDDEN).sum(dim=1)[:, None, None, None]
    return columns <= here + begin


def _scores(front: Front, own: float, filled: float, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of ``front``'s columns; None for nothing. Shape: rows x 1 x 1 x n."""
    if front.kinds is None and own == 0:
        return None
    kinds = front.all_kinds()
    lowest = torch.finfo(dtype).min
    scores = torch.full(kinds.shape, own, dtype=dtype, device=kinds.device)
    scores = scores.masked_fill(kinds == FILLED, max(filled, lowest)).masked_fill(kinds == HIDDEN, lowest)
    return scores[:, None, None, :]


def _scored(mask: Tensor, scores: Tensor, x: Tensor) -> Tensor:
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
