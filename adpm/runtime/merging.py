"""An adapter's change written into the base's own weights, and taken back bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import torch
from torch import Tensor, nn

from adpm.errors import AdapterError
from adpm.runtime.adapter import Adapter, layers_of
from adpm.runtime.anatomy import Anatomy, features
from adpm.runtime.methods.attention_prefix import PrefixTuningPart
from adpm.runtime.methods.bottleneck import BottleneckPart
from adpm.runtime.methods.head import HeadPart
from adpm.runtime.methods.hooked import HookedPart
from adpm.runtime.methods.inverse import InversePart
from adpm.runtime.methods.layer import CONVOLUTIONS, LayerPart, bias_of, weight_of
from adpm.runtime.methods.whole import BiasPart, ModulePart

__all__ = ["Merged"]


class Merged:
    """What one adapter changed. Making it changes the base, ``restore`` puts back what was there.

    Raises ``AdapterError`` (``merge-unsupported``) before anything is changed, where the adapter has parts that are no
    change of a linear layer's weights. Memory: a copy of every weight that is changed.
    """

    def __init__(self, name: str, adapter: Adapter, anatomy: Anatomy) -> None:
        self.name = name
        if layers_of(adapter.source, anatomy) is not anatomy:
            _refuse(name, "it replicates layers, whose weights are the same ones that it would change differently")
        layers: dict[str, list[LayerPart]] = {}
        for part in adapter.parts.values():
            if isinstance(part, (BottleneckPart, HeadPart, HookedPart, InversePart, PrefixTuningPart)):
                _refuse(name, "bottlenecks, heads, prompts and prefixes are no change of a weight")
            if isinstance(part, LayerPart):  # the others are what layers share
                layers.setdefault(part.layer, []).append(part)
        with torch.no_grad():
            changes = [pair for layer, parts in layers.items() for pair in _changes(name, layer, parts, anatomy)]
            self.before = [(tensor, tensor.detach().clone()) for tensor, _ in changes]
            for tensor, value in changes:
                tensor.copy_(value)

    def restore(self) -> None:
        """Put the base's own weights back."""
        with torch.no_grad():
            for tensor, value in self.before:
                tensor.copy_(value)


def _refuse(name: str, why: str) -> NoReturn:
    raise AdapterError(
        "merge-unsupported",
        f"the adapter {name!r} can't be merged into the base",
        cause=why,
        hint="activate it instead",
    )


def _changes(name: str, layer: str, parts: list[LayerPart], anatomy: Anatomy) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors of one layer, and what they are to be."""
    module = anatomy.module(layer)
    for part in parts:
        if isinstance(part, ModulePart):
            new = part.module.state_dict()
            yield from ((tensor, new[key]) for key, tensor in module.state_dict(keep_vars=True).items())
            return
    if features(module) is None and type(module) not in CONVOLUTIONS:
        biases = [part for part in parts if isinstance(part, BiasPart)]
        if len(biases) != len(parts) or bias_of(module) is None:
            _refuse(name, f"{layer} is no linear layer")
        yield _there(bias_of(module)), biases[-1]["bias"]
        return
    own = weight_of(module)
    if not own.is_floating_point() or _shared(module, anatomy):
        _refuse(name, f"the weight of {layer} is quantised, or another module's too")
    wide = torch.promote_types(own.dtype, torch.float32)
    weight, bias = own.to(wide), bias_of(module)
    bias = None if bias is None else bias.to(wide)
    for part in sorted(parts, key=lambda part: not isinstance(part, BiasPart)):
        try:
            weight, bias = part.fold_output(part.fold_input(weight), bias)
        except AdapterError as error:
            _refuse(name, error.what)
    transposed = weight.T if type(module).__name__ == "Conv1D" else weight
    yield _there(module.weight), transposed.reshape(_there(module.weight).shape)
    if bias is not None:
        if bias_of(module) is None:
            _refuse(name, f"it adds a bias to {layer}, which has none")
        yield _there(bias_of(module)), bias


def _there(tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("looked at before")
    return tensor


def _shared(module: nn.Module, anatomy: Anatomy) -> bool:
    """Whether another module has the same weight, as an output layer and embeddings may."""
    weight = module.weight
    return any(other is not module and getattr(other, "weight", None) is weight for other in anatomy.modules.values())
