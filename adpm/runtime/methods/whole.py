"""Parts that stand for something of the base itself: a layer's bias, or a module (PEFT's bias, modules_to_save).

The base keeps its own; while the adapter acts, a hook corrects or replaces the module's output.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from adpm.runtime.methods.layer import Folded, LayerPart, Seen, by_output

__all__ = ["BiasPart", "ModulePart"]


class BiasPart(LayerPart):
    """Another bias for a module that adds its bias last (linear layers, convolutions, layer norms). Slot: ``bias``."""

    def after(self, seen: Seen, output: Tensor) -> Tensor:
        return output + by_output(seen.layer, self["bias"] if seen.bias is None else self["bias"] - seen.bias)

    def fold_output(self, weight: Tensor, bias: Tensor | None) -> Folded:  # noqa: ARG002 - it is replaced
        return weight, self["bias"]


class ModulePart(LayerPart):
    """A copy of a module with its own weights. Slots: the module's parameters and buffers by their names."""

    def __init__(self, adapter: nn.Module, names: Mapping[str, str], layer: str, original: nn.Module) -> None:
        super().__init__(adapter, names, layer)
        self._original = original
        self._name = layer.replace(".", "/")

    @property
    def module(self) -> nn.Module:
        return self.adapter.get_submodule(self._name)

    def __getitem__(self, slot: str) -> Tensor:
        found: Tensor = self.module.state_dict(keep_vars=True)[slot]
        return found

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        self.adapter.add_module(self._name, _copy_around(self._original, tensors))

    def make_trainable(self) -> None:
        self.module.requires_grad_(True)


def _copy_around(original: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``original`` without its hooks, with ``tensors`` in place of its parameters, which are not copied."""
    memo: dict[int, object] = {}
    for module in original.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):  # noqa: SLF001 - hooks
            memo[id(hooks)] = OrderedDict()  # belong to the module they watch, and torch has no public list of them
    for name, parameter in original.named_parameters():
        memo[id(parameter)] = nn.Parameter(tensors[name], requires_grad=False)
    for name, buffer in original.named_buffers():
        if name in tensors:
            memo[id(buffer)] = tensors[name]
    return copy.deepcopy(original, memo)
