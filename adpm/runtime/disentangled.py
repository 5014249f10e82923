"""Prefixes in DeBERTa's attention, whose scores have a part for how far apart two positions are.

    score(i, p) = q_i . k_p / scale          for a prefix's column p: without the part for positions

As in ``longer.py`` the module gets as many positions more at the front. That a prefix has no part for positions is
said by where it stands: further away than any position, which is the first row of what the module makes of its relative
positions, for both directions; and that row is zero while a prefix acts. Its mask is one of ones and zeros: what
prefixes are filled up with is hidden, in the peer too.

v1 makes queries, keys and values in one layer, head by head, and adds its own bias to the values. v2 may make its
relative queries and keys in the layers of the others, which are called a second time for them.

Source: ``adapters`` 1.3.0, ``models/deberta/modeling_deberta.py`` and ``models/deberta_v2/modeling_deberta_v2.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from adpm.errors import CompositionError
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Order, Point
from adpm.runtime.longer import Longer, TextAlone, before
from adpm.runtime.methods.calls import Call
from adpm.runtime.prefixes import Run

__all__ = ["Disentangled"]

_FAR: Final = 1 << 20  # positions away: behind where every model's relative positions end
_INPUTS: Final = ("hidden_states", "query_states")
_RELATIVE: Final = ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj")  # what makes relative keys and queries


class Disentangled(Longer):
    """Around one such attention."""

    def __init__(self, run: Run, call: Call, model_type: str) -> None:
        super().__init__(run, call, "attention_mask", model_type)

    def acts(self, name: str, linears: Mapping[str, str], anatomy: Anatomy) -> Iterator[Act]:
        """The hooks on the attention called ``name`` and its layers."""
        yield Act(Point(name, "before"), self.before)
        if "qkv" in linears:
            yield Act(Point(linears["qkv"], "before"), TextAlone(self, self.keys), Order.FIRST)
            yield Act(Point(linears["qkv"], "after"), _Fused(self, anatomy.module(name)), Order.SUBLAYER)
        yield from self.linear_acts(linears)
        for path in (f"{name}.{word}" for word in _RELATIVE):
            if path in anatomy.modules:
                yield Act(Point(path, "after"), self.after_relative, Order.SUBLAYER)
        yield Act(Point(name, "after"), self.after)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = self.call.named(args, kwargs)
        x = named["hidden_states"]
        front = self.run(x, None)
        if front is None:
            return None
        count, relative = front.count, named.get("relative_pos")
        limit = getattr(module, "max_relative_positions", None)
        if relative is not None and limit is not None and x.shape[1] > limit:
            raise CompositionError(
                "composition-misfit",
                f"a text of {x.shape[1]} positions is too long for a prefix",
                cause=f"the model tells {limit} positions apart, and the prefix has to be further away than all",
                hint="give it a shorter text",
            )
        self.keys.put(front.keys)
        self.values.put(front.values)
        self.count.put(count)
        self.asked.put(True)
        if relative is not None:
            longer = functional.pad(relative, (count, 0, count, 0), value=-_FAR)
            longer[..., :count, :] = _FAR
            named["relative_pos"] = longer
        mask = functional.pad(named["attention_mask"], (count, 0, count, 0), value=1)
        if front.kinds is not None:
            shown = (front.kinds == 0)[:, None, None, :].to(mask.dtype).expand(-1, -1, mask.shape[2], -1)
            mask = torch.cat((shown, mask[..., count:].expand(len(x), -1, -1, -1)), dim=-1)
        inputs = {
            word: functional.pad(named[word], (0, 0, count, 0)) for word in _INPUTS if named.get(word) is not None
        }
        return (), {**named, **inputs, "attention_mask": mask}

    def after_queries(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:
        if self.asked.see() is None:
            return self.after_relative(linear, args, kwargs, output)
        return super().after_queries(linear, args, kwargs, output)

    def after_keys(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:
        if self.keys.see() is None:
            return self.after_relative(linear, args, kwargs, output)
        return super().after_keys(linear, args, kwargs, output)

    def after_relative(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:  # noqa: ARG002 - a hook's
        """Nothing for what stands furthest away. Shape of ``output``: 1 x twice the relative positions x hidden."""
        if self.count.see() is None:
            return None
        return torch.cat((torch.zeros_like(output[:, :1]), output[:, 1:]), dim=1)


class _Fused:
    """After the layer that makes all three: head by head a query, a key and a value."""

    def __init__(self, longer: Disentangled, attention: nn.Module) -> None:
        self.longer, self.attention = longer, attention

    def __call__(self, linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:  # noqa: ARG002 - a hook's
        keys, values = self.longer.keys.take(), self.longer.values.take()
        if keys is None or values is None:
            return None
        bias: Any = self.attention.v_bias
        values = values - bias.view(1, values.shape[1], 1, -1)  # which the module adds to all
        front = torch.cat((torch.zeros_like(keys), keys, values), dim=-1)  # rows x heads x n x 3 head size
        return before(output, front)
