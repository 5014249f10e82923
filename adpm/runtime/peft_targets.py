"""Which modules a config of PEFT's names: targets, and modules that it replaces whole.

Source: ``peft`` 0.21.2, ``tuners/tuners_utils.py`` (``check_target_module_exists``) and ``utils/other.py``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from torch import nn

from adpm.errors import AdapterError
from adpm.formats.peft_keys import Names, PeftMethod
from adpm.runtime.anatomy import Anatomy, output_embeddings, token_embedding

__all__ = ["input_embeddings", "no_target", "saved_names", "target_names", "targeted_by", "tied_with"]

_HEADS = ("score", "classifier")  # what "all-linear" leaves out of a sequence classifier
_ALL_LINEAR = "all-linear"


def target_names(config: PeftMethod, anatomy: Anatomy) -> list[str]:
    """The modules that the config targets, in the model's order."""
    return [name for name in anatomy.modules if name and _targeted(config, anatomy, name)]


def targeted_by(names: tuple[str, ...], anatomy: Anatomy) -> set[str]:
    """The modules that ``names`` as target modules reach."""
    return {name for name in anatomy.modules if name and _names(names, name)}


def saved_names(config: PeftMethod, anatomy: Anatomy) -> list[str]:
    """The modules that are saved whole: any whose name ends so, without those inside another."""
    found = [name for name in anatomy.modules if name and name.endswith(config.modules_to_save or ("\0",))]
    return [name for name in found if not any(name.startswith(f"{outer}.") for outer in found)]


def no_target(config: PeftMethod, anatomy: Anatomy) -> AdapterError:
    """The error where nothing is targeted."""
    targets = config.target_modules
    names = [targets] if isinstance(targets, str) else [*targets, *getattr(config, "target_parameters", ())]
    return AdapterError(
        "adapter-misfit",
        f"nothing in {type(anatomy.model).__name__} is a target of the adapter",
        cause=f"it targets {', '.join(names)}",
    )


def input_embeddings(anatomy: Anatomy) -> str:
    """The name of the module that turns tokens into vectors. ``AdapterError`` where the model has none."""
    found = token_embedding(anatomy)
    for name, module in anatomy.modules.items():
        if module is found:
            return name
    raise AdapterError("adapter-misfit", f"{type(anatomy.model).__name__} has no embedding of tokens")


def tied_with(name: str, anatomy: Anatomy) -> list[str]:
    """The other modules whose weight is that of the embedding called ``name``."""
    weight = anatomy.modules[name]._parameters.get("weight")  # noqa: SLF001 - not a child module's
    return [
        other
        for other, module in anatomy.modules.items()
        if other != name and weight is not None and module._parameters.get("weight") is weight  # noqa: SLF001 - as above
    ]


def _targeted(config: PeftMethod, anatomy: Anatomy, name: str) -> bool:
    saved = any(re.match(rf"(^|.*\.){pattern}($|\..*)", name) for pattern in config.modules_to_save)
    if saved or _names(config.exclude_modules, name):
        return False
    targets = config.target_modules
    if isinstance(targets, str) and targets.lower() == _ALL_LINEAR:
        return _is_plain_linear(anatomy.modules[name]) and name not in _output_names(config, anatomy)
    if not _names(targets, name):
        return False
    everywhere = isinstance(targets, str) or name in targets or not config.layers_to_transform
    return everywhere or _layer(config, name) in config.layers_to_transform


def _names(targets: Names, name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return bool(targets) and f".{name}".endswith(_suffixes(targets))


@lru_cache(maxsize=64)
def _suffixes(targets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{target}" for target in targets)


def _layer(config: PeftMethod, name: str) -> int | None:
    """The number of the layer that ``name`` is in: the first number, or the one behind ``layers_pattern``."""
    patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in config.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
    for pattern in patterns:
        match = re.match(pattern, name)
        if match is not None:
            return int(match[1])
    return None


def _is_plain_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _output_names(config: PeftMethod, anatomy: Anatomy) -> tuple[str, ...]:
    names = output_embeddings(anatomy)
    if names or config.task_type != "SEQ_CLS":
        return names
    return tuple(name for name in _HEADS if name in anatomy.modules)[:1]
