"""ReFT: interventions on a layer's output at its first and last positions.

    h' = drop(h + (a(W h + b) - R h) R)         W, R: r x hidden, b: r;  without ``subtract_projection``: a(W h + b) R
    LoReFT: R's rows are orthonormal, R^T = Q0 H(L) with Q0: hidden x hidden and H the reflections below L's diagonal

Positions are counted within what the attention mask lets through; one that is among the first and the last ones gets
the intervention for the last, on the layer's own output. In a stack only the first adapter's act, as in the
peer. Sources: Wu et al. 2024 (2404.03592); ``adapters`` 1.3.0, ``methods/reft.py``; torch, ``parametrizations``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from adpm.formats.adapterhub_methods import Reft
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Act, Capture, Order, Point
from adpm.runtime.methods.calls import Call
from adpm.runtime.methods.hooked import HookedPart

__all__ = ["ReftMaskPart", "ReftPart", "start_reft"]

# Families whose hidden states, as the peer gives them, are those before the intervention: it is made on the way into
# what comes next.
_RECORDED: Final = frozenset({"gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "vit"})
_LAST_NORMS: Final = ("norm", "layernorm")


class ReftMaskPart(HookedPart):
    """What the layers of one adapter have in common: where the tokens of each row begin and end. It has no tensors."""

    FIRST_ALONE = True

    def __init__(self, adapter: nn.Module, names: Mapping[str, str]) -> None:
        super().__init__(adapter, names)
        self.mask = Capture()

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        base = anatomy.prefix.rstrip(".")
        yield Act(Point(base, "before"), _SeeMask(self, Call(anatomy.modules[base])))

    def ends(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The first position of each row's tokens, and the one after the last. Shapes: rows x 1."""
        mask = self.mask.see()
        if mask is None or mask.dim() != 2 or len(mask) != len(hidden):
            first = torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)
            return first, first + hidden.shape[1]
        first = mask.long().argmax(1, keepdim=True)
        return first, first + (mask == 1).sum(1, keepdim=True)


class _SeeMask:
    def __init__(self, part: ReftMaskPart, call: Call) -> None:
        self.part, self.call = part, call

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a hook's
        self.part.mask.put(self.call.named(args, kwargs).get("attention_mask"))


class ReftPart(HookedPart):
    """The interventions on the output of the module ``layer``. Slots: ``formats.adapterhub_sequence.reft_slots``."""

    FIRST_ALONE = True
    layer: str

    def __init__(self, adapter: Any, names: Mapping[str, str], layer: str, config: Reft, common: str) -> None:
        super().__init__(adapter, names)
        self.layer = layer
        self.config = config
        self._common = common
        self._parts = adapter.parts
        self._activate = ACTIVATIONS[config.non_linearity or "linear"]

    def acts(self, anatomy: Anatomy) -> Iterator[Act]:
        after = _next(self.layer, anatomy) if anatomy.model_type in _RECORDED else None
        if after is None:
            yield Act(Point(self.layer, "after"), _After(self), Order.SUBLAYER)
        else:
            yield Act(Point(after, "before"), _Before(self))

    def make_trainable(self) -> None:
        for slot in self.names:
            self[slot].requires_grad_(not slot.startswith("base"))

    def change(self, hidden: Tensor) -> Tensor:
        """The layer's output instead of ``hidden``. Shape: rows x positions x hidden."""
        config, length = self.config, hidden.shape[1]
        first, end = self._parts[self._common].ends(hidden)
        here = torch.arange(length, device=hidden.device)
        ahead = first + here[: min(config.prefix_positions, length)]
        behind = end - min(config.suffix_positions, length) + here[: min(config.suffix_positions, length)]
        out = hidden
        for number, places in enumerate((ahead, behind)):
            if places.shape[1]:
                index = places.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
                new = self._unit(hidden.gather(1, index), 0 if config.tied_weights else number)
                out = out.scatter(1, index, new.to(hidden.dtype))
        return out

    def _unit(self, x: Tensor, unit: int) -> Tensor:
        config, projection = self.config, self._projection(unit)
        source = self._activate(functional.linear(x, self[f"source{unit}_weight"], self[f"source{unit}_bias"]))
        if config.subtract_projection:
            source = source - functional.linear(x, projection)
        out = x + source @ projection
        return functional.dropout(out, config.dropout) if config.dropout and self.training else out

    def _projection(self, unit: int) -> Tensor:
        """R. Shape: r x hidden."""
        kept = self[f"projection{unit}"]
        if not self.config.orthogonality:
            return kept
        tall = kept.T
        wide = tall.float() if tall.dtype in (torch.float16, torch.bfloat16) else tall
        lower = wide.tril(diagonal=-1)
        turned = torch.linalg.householder_product(lower, 2 / (1 + (lower * lower).sum(dim=0)))
        signs = wide.diagonal().int()
        out: Tensor = (self[f"base{unit}"].to(wide.dtype) @ (turned * signs)).T.to(kept.dtype)
        return out


def _next(layer: str, anatomy: Anatomy) -> str | None:
    """The module that gets the output of ``layer``: the next layer, or the norm behind the last."""
    layers = [name for _, name in anatomy.layers()]
    place = layers.index(layer) + 1
    if place < len(layers):
        return layers[place]
    return next((anatomy.prefix + name for name in _LAST_NORMS if anatomy.prefix + name in anatomy.modules), None)


class _Before:
    def __init__(self, part: ReftPart) -> None:
        self.part = part

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - a hook's
        if args:
            return (self.part.change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.part.change(kwargs["hidden_states"])}


class _After:
    def __init__(self, part: ReftPart) -> None:
        self.part = part

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ARG002 - a hook's
        if isinstance(output, tuple):
            return (self.part.change(output[0]), *output[1:])
        return self.part.change(output)


def start_reft(tensors: Mapping[str, Tensor], generator: Generator | None) -> None:
    """As torch starts linear layers; an orthogonal projection as its parametrisation starts."""
    for name, tensor in tensors.items():
        if name.startswith("base"):
            continue
        if name.endswith("_bias"):
            bound = 1 / math.sqrt(tensors[name.replace("bias", "weight")].shape[1])
            nn.init.uniform_(tensor, -bound, bound, generator=generator)
            continue
        nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        base = tensors.get(name.replace("projection", "base")) if name.startswith("projection") else None
        if base is not None:
            more = torch.empty(base.shape[0], base.shape[0] - len(tensor)).normal_(generator=generator)
            whole = torch.cat((tensor.T.float(), more.to(tensor.device)), dim=1)
            q, r = torch.linalg.qr(whole)
            base.copy_(q * r.diagonal().sign())
            tensor.zero_()
            tensor.diagonal().fill_(-1.0)
