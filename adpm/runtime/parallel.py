"""Running several branches on copies of one batch: where the rows are repeated, and what has to follow them.

Below the first layer where a branch acts there is one copy; from there on the batch has ``count`` times its rows, first
all of the first branch, then all of the second. Where the first branches act by the sum form, the rows are repeated
right there; else at that layer's entrance. Later layers get masks and the like as often as their input, and a decoder
whose encoder was repeated is repeated as a whole.

Source: ``adapters`` 1.3.0, ``methods/adapter_layer_base.py`` (``compose_parallel``), ``composition.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final, Protocol

from torch import Tensor, nn

from adpm.core.composition import Block, Composition, Rows
from adpm.errors import CompositionError
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.sites.family import SUBLAYERS
from adpm.runtime.tree import Chain, Fork

__all__ = ["Widening", "branches_of", "has_parallel", "repeated"]

# Arguments of layers and decoders that have a row for each text; others may have as many rows by chance.
_BY_ROW: Final = frozenset(
    {
        "alibi",
        "attention_mask",
        "attn_mask",
        "causal_attention_mask",
        "encoder_attention_mask",
        "encoder_decoder_position_bias",
        "encoder_hidden_states",
        "hidden_state",
        "hidden_states",
        "input_ids",
        "inputs_embeds",
        "position_bias",
        "position_embeddings",
        "position_ids",
        "x",
    }
)


class Widens(Protocol):
    """An operation that can repeat its rows before its n-th change."""

    wide_from: tuple[int, int] | None


def branches_of(composition: Composition | Rows) -> int:
    """How many copies of the batch run, 1 without parallel. Raises ``composition-unsupported``."""
    counts = set(_counts(composition, top=True))
    if len(counts) > 1:
        _refuse(composition, "its parallels have different numbers of branches")
    return counts.pop() if counts else 1


def _counts(composition: Composition | Rows | None, *, top: bool) -> list[int]:
    if composition is None or isinstance(composition, str):
        return []
    parallel = isinstance(composition, Block) and composition.kind == "parallel"
    if parallel and not top:
        _refuse(composition, "only a stack may have it as a part")
    onwards = top and isinstance(composition, Block) and composition.kind in ("stack", "skip")
    inner = [count for part in composition.parts for count in _counts(part, top=onwards)]
    return [*inner, len(composition.parts)] if parallel else inner


def _refuse(composition: object, why: str) -> None:
    raise CompositionError(
        "composition-unsupported",
        f"{composition} can't be run",
        cause=f"parallel repeats the whole batch, and {why}",
        hint="write parallel outermost: parallel(stack(a, b), stack(a, c))",
    )


def has_parallel(tree: Chain[Any]) -> bool:
    return any(isinstance(item, Fork) and item.kind == "parallel" for item in tree.items)


def repeated(x: Tensor, count: int) -> Tensor:
    """``x`` with its rows ``count`` times, copy after copy."""
    return x.repeat(count, *(1,) * (x.dim() - 1))


class Widening:
    """Collects where branches act, and then adds the hooks that repeat rows."""

    def __init__(self, count: int, anatomy: Anatomy) -> None:
        self.count = count
        self.anatomy = anatomy
        self.stacks = anatomy.stacks()
        self.layers = [layer for stack in self.stacks for layer in stack]
        recurrent = any(stack.recurrent for stack in anatomy.family().stacks)
        self.rows = Capture() if recurrent else None  # of the batch, where a layer may get it repeated already
        self.early: set[str] = set()
        self.late: dict[str, list[tuple[int, int, Widens]]] = {}

    def see(self, module: str) -> None:
        """Branches act at ``module`` in some way that wants the rows repeated before its layer."""
        self.early.add(self._layer(module))

    def see_sum(self, sublayer: str, norm: str, act: Widens, tree: Chain[Any]) -> None:
        """Branches act by the sum form at the sub-layer that ends in ``norm``."""
        if self.rows is not None:
            self.early.add(self._layer(norm))
            return
        place = next(i for i, item in enumerate(tree.items) if isinstance(item, Fork) and item.kind == "parallel")
        self.late.setdefault(self._layer(norm), []).append((SUBLAYERS.index(sublayer), place, act))

    def _layer(self, module: str) -> str:
        found = next((layer for layer in self.layers if f"{module}.".startswith(f"{layer}.")), None)
        if found is None:
            raise CompositionError(
                "composition-unsupported",
                f"a branch of parallel acts at {module}, which is in no layer",
                hint="use batch() on a batch that has its rows repeated",
            )
        return found

    def acts(self) -> Iterator[Act]:
        """What repeats rows; nothing where no branch acts in any layer."""
        acting = [layer for layer in self.layers if layer in self.early or layer in self.late]
        if not acting:
            return
        first = acting[0]
        if self.rows is not None:
            yield Act(Point(self.anatomy.prefix.rstrip("."), "before"), _Count(self.rows))
        number, stack = next((i, stack) for i, stack in enumerate(self.stacks) if first in stack)
        if first in self.early:
            yield self._repeat(first, everything=True)
            if first == self.layers[0]:
                yield Act(Point(self.anatomy.prefix.rstrip("."), "after"), _Narrow(self.count))
        else:
            _, place, act = min(self.late[first], key=lambda found: found[0])
            act.wide_from = place, self.count
        for layer in stack[stack.index(first) + 1 :]:
            yield self._repeat(layer, everything=False)
        for later in self.stacks[number + 1 :]:
            yield self._repeat(_parent(later[0]), everything=True)

    def _repeat(self, module: str, *, everything: bool) -> Act:
        call = _Repeat(self.anatomy.module(module), self.count, self.rows, everything=everything)
        return Act(Point(module, "before"), call, Order.FIRST)


def _parent(layer: str) -> str:
    """The module that has the layers: the encoder or the decoder."""
    return layer.rsplit(".", 2)[0]


class _Count:
    """Before the base: how many rows the batch has."""

    def __init__(self, rows: Capture) -> None:
        self.rows = rows

    def __call__(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        self.rows.put(next((len(v) for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None))


class _Repeat:
    """Before a layer or a decoder: its input's rows repeated (``everything``), or masks as often as its input is.

    ``rows``: of the batch, where what has more of them is repeated already.
    """

    def __init__(self, module: nn.Module, count: int, rows: Capture | None, *, everything: bool) -> None:
        self.names = tuple(inspect.signature(module.forward).parameters)
        self.count = count
        self.rows = rows
        self.everything = everything

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        named = dict(zip(self.names, args, strict=False)) | kwargs
        found = next((v for k, v in named.items() if isinstance(v, Tensor) and k in _BY_ROW), None)
        if found is None:
            return None
        narrow = self.everything and (self.rows is None or found.shape[0] == self.rows.see())
        rows = found.shape[0] if narrow else found.shape[0] // self.count
        return (
            tuple(self._value(name, value, rows) for name, value in zip(self.names, args, strict=False)),
            {name: self._value(name, value, rows) for name, value in kwargs.items()},
        )

    def _value(self, name: str, value: Any, rows: int) -> Any:
        if name not in _BY_ROW:
            return value
        if isinstance(value, tuple):
            return tuple(self._value(name, item, rows) for item in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] == rows:
            return repeated(value, self.count)
        return value


class _Narrow:
    """After the base: transformers 5 shows the first layer's input as it came in, where 4 shows it from before."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        for name in ("hidden_states", "encoder_hidden_states"):
            states = getattr(output, name, None)
            if isinstance(states, tuple) and len(states) > 1 and len(states[0]) == len(states[1]):
                output[name] = (states[0][: len(states[0]) // self.count], *states[1:])
        return output
