"""Prefix tuning in PEFT's form: keys and values before those of every layer's self-attention.

    K'_l = [P_2l, K_l],  V'_l = [P_2l+1, V_l]            P: n x (2 layers x heads x head size)

They are what a cache would hold after n tokens, and are handed to the model as one: the mask gets n ones, and positions
begin at n, as in the peer. An encoder-decoder has them in its decoder, in layer l P_4l and P_4l+1, counted round: the
peer doubles P for self- and cross-attention, and deals it out in fours. Sources: Li and Liang 2021 (2101.00190);
``peft`` 0.21.2, ``peft_model.py`` (``get_prompt``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.utils.generic import ModelOutput

from adpm.errors import AdapterError
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Order, Point
from adpm.runtime.methods.calls import OUTPUT_CACHE, Call, cache_of, cached_length, later, widen
from adpm.runtime.methods.hooked import HookedPart

__all__ = ["PrefixPart"]


class PrefixPart(HookedPart):
    """Slot: ``vectors``. ``sizes`` are layers and heads; ``step`` is how far apart the layers' keys are."""

    ALONE = True

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], sizes: tuple[int, int], step: int) -> None:
        super().__init__(adapter, names)
        self.step = step
        self.sizes = sizes

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        place = next((path for path in ("", anatomy.prefix.rstrip(".")) if _takes_cache(anatomy, path)), None)
        if place is None:
            raise AdapterError(
                "adapter-misfit",
                f"{type(anatomy.model).__name__} takes no past keys and values",
                cause="prefix tuning in PEFT's form is handed to the model as such",
            )
        module = anatomy.modules[place]
        yield Act(Point(place, "before"), _Fill(self, Call(module), anatomy.config))
        yield Act(Point(place, "after"), _Empty(anatomy.config), Order.SEE)

    def keys_and_values(self, rows: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each layer. Shape: rows x heads x n x head size."""
        layers, heads = self.sizes
        vectors = self["vectors"].to(like)
        found = vectors.view(len(vectors), 2 * layers, heads, -1).permute(1, 2, 0, 3)
        found = found.unsqueeze(1).expand(-1, rows, -1, -1, -1)
        first = [self.step * layer % (2 * layers) for layer in range(layers)]
        return [(found[place], found[place + 1]) for place in first]


def _takes_cache(anatomy: Anatomy, path: str) -> bool:
    return Call(anatomy.modules[path]).cache is not None


class _Fill:
    def __init__(self, part: PrefixPart, call: Call, config: Any) -> None:
        self.part, self.call, self.config = part, call, config
        self.pair = bool(getattr(config, "is_encoder_decoder", False))
        self.mask = "decoder_attention_mask" if self.pair else "attention_mask"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs, count = self.call.named(args, kwargs), len(self.part["vectors"])
        if cached_length(kwargs):
            return (), later(kwargs, count, self.mask)
        sources = ("input_ids", "inputs_embeds")
        words = ("decoder_input_ids", "decoder_inputs_embeds", "labels") if self.pair else sources
        rows = next(len(kwargs[word]) for word in words if kwargs.get(word) is not None)
        cache = cache_of(kwargs)
        if cache is None:
            plain = DynamicCache() if self.pair else DynamicCache(config=self.config)
            cache = EncoderDecoderCache(plain, DynamicCache()) if self.pair else plain
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        like = next(p for p in module.parameters() if p.is_floating_point())
        for layer, (key, value) in enumerate(self.part.keys_and_values(rows, like)):
            own.update(key, value, layer)
        widen(kwargs, self.mask, count, 1)
        if isinstance(kwargs.get("cache_position"), Tensor):
            kwargs["cache_position"] = kwargs["cache_position"] + count
        kwargs.pop("position_ids", None)
        return (), {**kwargs, str(self.call.cache): cache}


class _Empty:
    """After a pass that was asked for no cache: the one that held the prefix is not given back as if it were one.

    Generation without a cache would hand it in again, with all tokens.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        wanted = kwargs.get("use_cache")
        wanted = getattr(self.config, "use_cache", True) if wanted is None else wanted
        if wanted or not isinstance(output, ModelOutput) or OUTPUT_CACHE not in output:
            return None
        return type(output)(**{name: value for name, value in output.items() if name != OUTPUT_CACHE})
