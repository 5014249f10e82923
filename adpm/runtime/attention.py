"""How prefixes meet an attention: what puts columns before its keys and values, and lets its mask follow.

* *With a cache*: what the module is handed as its cache puts them there: after rotary positions, before the scores;
* *without one* by positions more at the front of its input (``longer.py``), and where scores have relative positions of
  their own (DeBERTa) without these (``disentangled.py``).

T5's layers share one bias of positions, which the first makes for its own columns. A layer that has others, because
some layers have a prefix and some have none, gets none, and neither do those that follow: as in the peer
(``specs/decisions/0014-prefixes-in-deberta-and-t5.md``).

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
from adpm.runtime.disentangled import Disentangled
from adpm.runtime.hooks import Act, Point
from adpm.runtime.longer import ADDED, Longer
from adpm.runtime.methods.calls import Call, cache_of
from adpm.runtime.methods.masking import is_eager, opens, with_scores
from adpm.runtime.prefixes import Placed, Run, counted, run_of, scores_of, uneven_rows
from adpm.runtime.tree import Chain, leaves_of

__all__ = ["attention_acts", "fitting_acts"]

_MASKS: Final = ("attention_mask", "mask")
_BIAS: Final = "position_bias"
_COUNTED: Final = "it counts relative positions from the prefix's beginning, for all rows alike"
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
        if _BIAS in call:
            _check_even(name, tree, _COUNTED)
        across = any(part.targets[place].across for leaf in leaves_of(tree) for part, place in leaf.part)
        cached = _Cached(run, call, call.cache, mask, across=across, speech=anatomy.model_type == "whisper")
        yield Act(Point(name, "before"), cached)
        if _BIAS in call and _adds_mask(module):
            yield Act(Point(name, "after"), cached.after)
        return
    linears = next(dict(site.linears) for site in anatomy.attentions() if site.module == name)
    if "rel_embeddings" in call:
        _check_even(name, tree, _COUNTED)
        yield from Disentangled(run, call, anatomy.model_type).acts(name, linears, anatomy)
        return
    if not linears.keys() >= {"q", "k", "v"}:
        raise AdapterError(
            "family-unsupported",
            f"adpm can't put a prefix into {name}",
            cause=f"{type(module).__name__} takes no past keys and values, and has no plain ones of its own",
        )
    mask = next((word for word in ADDED if word in call), None)
    if mask is None:
        _check_even(
            name, tree, f"{type(module).__name__} takes no mask that hides what the shorter ones are filled up with"
        )
    longer = Longer(run, call, mask, anatomy.model_type)
    yield Act(Point(name, "before"), longer.before)
    yield from longer.linear_acts(linears)
    bias = f"{name}.relative_position_bias"
    if bias in anatomy.modules:
        yield Act(Point(bias, "before"), longer.before_bias)
        yield Act(Point(bias, "after"), longer.after_bias)
    yield Act(Point(name, "after"), longer.after)


def _check_even(name: str, tree: Chain[Placed], cause: str) -> None:
    if uneven_rows(tree):
        raise CompositionError(
            "composition-unsupported",
            f"rows can't have prefixes of different lengths in {name}",
            cause=cause,
            hint="give each prefix rows of its own: activate one at a time",
        )


def fitting_acts(trees: Mapping[str, Chain[Placed]], anatomy: Anatomy) -> Iterator[Act]:
    """The hooks on attentions without a prefix that are given a bias of positions by others with one (T5)."""
    for site in anatomy.attentions():
        call = Call(anatomy.module(site.module))
        if _BIAS in call and call.cache is not None and site.module not in trees:
            yield Act(Point(site.module, "before"), _Fit(call, across=site.prefix == "cross"))


def _adds_mask(module: nn.Module) -> bool:
    """Whether an attention with a bias of positions adds its mask to the scores itself.

    Until some transformers 5 the first layer of T5 adds the mask to the bias instead, and the others look at no mask.
    """
    return hasattr(module, "scaling")


def _fit(kwargs: dict[str, Any], columns: int) -> None:
    """Take away a bias of positions that was made for other ``columns``: the module makes one of zeros then."""
    bias = kwargs.get(_BIAS)
    if isinstance(bias, Tensor) and bias.shape[-1] != columns:
        kwargs[_BIAS] = None


class _Fit:
    def __init__(self, call: Call, *, across: bool) -> None:
        self.call, self.across = call, across
        self.mask = next((word for word in _MASKS if word in call), "")

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = self.call.named(args, kwargs)
        first = self.call.names[0]
        cache = _own(cache_of(kwargs), across=self.across)
        _fit(kwargs, _columns(kwargs, kwargs.get(self.mask), _past(module, cache)))
        return (kwargs.pop(first),), kwargs


def _own(cache: Any, *, across: bool) -> Any:
    """What of ``cache`` holds an attention's own positions."""
    if isinstance(cache, EncoderDecoderCache):
        return None if across else cache.self_attention_cache
    return cache


def _past(module: nn.Module, cache: Any) -> int:
    return 0 if cache is None else int(cache.get_seq_length(getattr(module, "layer_idx", 0) or 0))


def _columns(kwargs: dict[str, Any], mask: Tensor | None, past: int) -> int:
    """How many positions an attention looks at, a prefix not counted."""
    if mask is not None:
        return int(mask.shape[-1])
    other = next((kwargs[word] for word in _OTHERS if isinstance(kwargs.get(word), Tensor)), None)
    first = next(iter(kwargs.values()))
    return past + int(first.shape[1]) if other is None else int(other.shape[1])


class _Cached:
    """Before an attention module: its cache and its mask.

    What is added to the scores of a prefix's columns goes with the bias of positions, where layers share one: it is the
    first layer's, for all.
    """

    def __init__(self, run: Run, call: Call, cache: str, mask: str, *, across: bool, speech: bool) -> None:
        self.run, self.call = run, call
        self.cache, self.mask, self.across, self.speech = cache, mask, across, speech

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = self.call.named(args, kwargs)
        first = self.call.names[0]
        x = kwargs[first]
        front = self.run(x, None)
        if front is None:
            return None
        cache, mask = _own(kwargs.get(self.cache), across=self.across), kwargs.get(self.mask)
        # As in the peer, whose masks are added and get a one there; its eager attention has one, but for speech.
        filled = 1.0 if mask is not None or (is_eager(module) and not self.speech) else 0.0
        past = _past(module, cache)
        columns = front.count + _columns(kwargs, mask, past)
        _fit(kwargs, columns)
        scores = None if kwargs.get(_BIAS) is not None else scores_of(front, 0.0, filled, x.dtype)
        if mask is None and x.shape[1] > 1 and getattr(module, "is_causal", False):
            mask = counted(front, past, x)
        elif mask is None and scores is not None:
            mask = x.new_zeros(1, 1, 1, columns)
        elif mask is not None:
            mask = functional.pad(mask, (front.count, 0), value=opens(mask))
        kwargs[self.cache] = _Front(front.keys, front.values, scores, cache)
        kwargs[self.mask] = mask if mask is None or scores is None else with_scores(mask, scores, x)
        return (x,), {name: value for name, value in kwargs.items() if name != first}

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        """Put the scores into the bias that the next layer gets."""
        front = kwargs.get(self.cache)
        scores = front.scores if isinstance(front, _Front) else None
        if scores is None:
            return None
        hidden, bias, *rest = output
        more = functional.pad(scores, (0, bias.shape[-1] - scores.shape[-1]))
        return (hidden, bias + more, *rest)


class _Front:
    """What an attention module takes for its cache: it adds the new keys to the real one, and the prefix before all."""

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, scores: Tensor | None, cache: Any) -> None:
        self.keys, self.values, self.cache = keys, values, cache
        self.scores = scores  # that the mask has in the columns of these

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *args, **kwargs)
        return torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)

    def __bool__(self) -> bool:
        """Whisper of transformers 4.57 takes keys out of what is true, and has nothing updated."""
        return False

    def get_seq_length(self, *args: Any) -> int:
        return 0 if self.cache is None else int(self.cache.get_seq_length(*args))
