"""The layers of a base in another order, some of them several times: PEFT's ``layer_replication``.

The replicas share the weights of the layers that they are of, and have adapters of their own. While a plan for them is
followed, they are the model's layers, the config's number of layers is theirs, and so are its caches and hidden states;
then the model is as it was. Unlike other compositions this one is a state of the model and not of a thread.

Source: Kim et al. 2023 (2312.15166); ``peft`` 0.21.2, ``tuners/tuners_utils.py`` (``replicate_layers``).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Iterator
from types import MethodType
from typing import Any, Final

from torch import nn
from transformers import PreTrainedModel

from adpm.errors import AdapterError

__all__ = ["Replicas"]

_LISTS: Final = ("layers", "encoder.layer", "h", "transformer.layer")  # where a base keeps its layers
_NUMBERS: Final = "num_hidden_layers"
_KINDS: Final = "layer_types"  # of each layer, in the config


class Replicas:
    """The layers of ``model`` in ``order``; ``path`` is the name of their list, ``modules`` are the replicas' by name.

    Raises ``AdapterError`` (``adapter-misfit``) where the model has no such layers.
    """

    def __init__(self, model: nn.Module, prefix: str, order: tuple[int, ...]) -> None:
        found = [path for path in (prefix + name for name in _LISTS) if isinstance(_at(model, path), nn.ModuleList)]
        if not found:
            raise AdapterError(
                "adapter-misfit",
                f"the adapter replicates layers, and adpm finds no list of them in {type(model).__name__}",
                cause=f"it looked for {', '.join(_LISTS)} below {prefix or 'the model'}",
            )
        self.path = found[0]
        owner, self._name = _at(model, self.path.rpartition(".")[0]), self.path.rpartition(".")[2]
        self._owner: Any = owner
        self._own: Any = getattr(owner, self._name)
        if max(order) >= len(self._own):
            raise AdapterError(
                "adapter-misfit",
                f"the adapter replicates layer {max(order)}, and the model has {len(self._own)} layers",
            )
        self._base: Any = _at(model, prefix.rstrip("."))
        self._pairs = [(self._own[layer], _replica(self._own[layer])) for layer in order]
        self._order = order
        self._before: dict[str, Any] = {}
        self.layers = nn.ModuleList(replica for _, replica in self._pairs)
        self._number()

    def enter(self) -> None:
        """Make the replicas the model's layers."""
        _let_record(self._base)
        self.layers.training = self._own.training
        for own, replica in self._pairs:
            for module, twin in zip(own.modules(), replica.modules(), strict=True):
                _refresh(twin, module)
        self._number()
        config = self._base.config
        self._before = {name: getattr(config, name) for name in (_NUMBERS, _KINDS) if hasattr(config, name)}
        kinds = self._before.get(_KINDS)
        setattr(config, _NUMBERS, len(self._order))
        if isinstance(kinds, (list, tuple)) and len(kinds) == len(self._own):
            setattr(config, _KINDS, [kinds[layer] for layer in self._order])
        setattr(self._owner, self._name, self.layers)

    def leave(self) -> None:
        """Give the model its own layers back, in the mode that the replicas are in."""
        if self._own.training != self.layers.training:
            self._own.train(self.layers.training)  # those that have no replica too
        for own, replica in self._pairs:
            for module, twin in zip(own.modules(), replica.modules(), strict=True):
                module.training = twin.training
        setattr(self._owner, self._name, self._own)
        for name, value in self._before.items():
            setattr(self._base.config, name, value)

    def _number(self) -> None:
        """Each replica is the layer of its own place for caches."""
        for place, (_, replica) in enumerate(self._pairs):
            for module in replica.modules():
                if hasattr(module, "layer_idx"):
                    module.__dict__["layer_idx"] = place


def _let_record(base: nn.Module) -> None:
    """transformers 5 hooks the layers that a model has when it first records hidden states, and never others."""
    found = importlib.util.find_spec("transformers.utils.output_capturing")  # transformers 4.57 has none, and no need
    if found is not None and isinstance(base, PreTrainedModel):
        importlib.import_module(found.name).maybe_install_capturing_hooks(base)


def _at(model: nn.Module, path: str) -> nn.Module | None:
    module: Any = model
    for name in filter(None, path.split(".")):
        module = getattr(module, name, None)
    return module if isinstance(module, nn.Module) else None


def _replica(module: nn.Module) -> nn.Module:
    """A module of the same parameters and buffers: the same mappings, so that whatever becomes of one does of both."""
    twin = copy.copy(module)
    children = {name: child if child is None else _replica(child) for name, child in module._modules.items()}  # noqa: SLF001 - torch has no other way
    twin.__dict__["_modules"] = children
    _refresh(twin, module)
    return twin


def _refresh(twin: nn.Module, module: nn.Module) -> None:
    """Make ``twin`` what ``module`` is now, with children and mappings of hooks of its own."""
    children = twin.__dict__["_modules"]
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = children
    for name in _hooks_of(module):
        twin.__dict__[name] = module.__dict__[name].copy()
    for name, value in module.__dict__.items():
        if isinstance(value, MethodType) and value.__self__ is module:  # transformers 4.57 leaves such a forward
            twin.__dict__[name] = MethodType(value.__func__, twin)


def _hooks_of(module: nn.Module) -> Iterator[str]:
    """The names of the mappings that hold a module's hooks."""
    return (name for name, value in module.__dict__.items() if "_hooks" in name and isinstance(value, dict))
