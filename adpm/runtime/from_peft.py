"""PEFT's LoRA on a live model: which modules it targets, and where its tensors stand in the file.

Source: ``peft`` 0.21.2, ``tuners/tuners_utils.py`` (``check_target_module_exists``) and ``utils/other.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial

from torch import Generator, Tensor, nn

from adpm.errors import AdapterError
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft import PeftLora
from adpm.runtime.anatomy import Anatomy, features, output_embeddings
from adpm.runtime.methods.low_rank import LowRankOptions, LowRankPart, start_low_rank
from adpm.runtime.methods.whole import BiasPart, ModulePart
from adpm.runtime.part import Blueprint

__all__ = ["BIAS", "MODULE", "PREFIX", "peft_blueprints", "targeted_by"]

PREFIX = "base_model.model."
BIAS = "bias"  # the last part of a bias part's key
MODULE = "module"  # the last part of a whole module's key
_HEADS = ("score", "classifier")  # what "all-linear" leaves out of a sequence classifier
_ALL_LINEAR = "all-linear"


def peft_blueprints(config: PeftLora, anatomy: Anatomy) -> tuple[Blueprint, ...]:
    """Every part of the adapter. Raises ``AdapterError`` (``adapter-misfit``, ``method-unsupported``)."""
    saved = _saved(config, anatomy)
    targets = [name for name in anatomy.modules if name and _targeted(config, anatomy, name)]
    if not targets:
        raise AdapterError(
            "adapter-misfit",
            f"no module of {type(anatomy.model).__name__} is a target of the adapter",
            cause=f"it targets {_shown(config.target_modules)}",
        )
    twice = sorted(set(saved) & set(targets))
    if twice:
        raise AdapterError("adapter-misfit", f"the adapter both changes and replaces {', '.join(twice)}")
    out = [_low_rank(config, anatomy, name) for name in targets]
    out += [_module(anatomy.modules[name], name) for name in saved]
    if config.bias != "none":
        biased = targets if config.bias == "lora_only" else _biased(anatomy, saved)
        out += [_bias(anatomy.modules[name], name, name in targets) for name in biased if _has_bias(anatomy, name)]
    return tuple(out)


def targeted_by(names: tuple[str, ...], anatomy: Anatomy) -> set[str]:
    """The modules that ``names`` as target modules reach."""
    return {name for name in anatomy.modules if name and _names(names, name)}


def _shown(targets: str | tuple[str, ...]) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)


def _targeted(config: PeftLora, anatomy: Anatomy, name: str) -> bool:
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


def _names(targets: str | tuple[str, ...], name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return bool(targets) and f".{name}".endswith(_suffixes(targets))


@lru_cache(maxsize=64)
def _suffixes(targets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{target}" for target in targets)


def _layer(config: PeftLora, name: str) -> int | None:
    """The number of the layer that ``name`` is in: the first number, or the one behind ``layers_pattern``."""
    patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in config.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
    for pattern in patterns:
        match = re.match(pattern, name)
        if match is not None:
            return int(match[1])
    return None


def _is_plain_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _output_names(config: PeftLora, anatomy: Anatomy) -> tuple[str, ...]:
    names = output_embeddings(anatomy)
    if names or config.task_type != "SEQ_CLS":
        return names
    return tuple(name for name in _HEADS if name in anatomy.modules)[:1]


def _by_pattern(patterns: Iterable[tuple[str, float]], name: str, default: float) -> float:
    for pattern, value in patterns:
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _low_rank(config: PeftLora, anatomy: Anatomy, name: str) -> Blueprint:
    module = anatomy.modules[name]
    sizes = features(module)
    if sizes is None:
        raise AdapterError(
            "method-unsupported",
            f"the adapter targets {name}, a {type(module).__name__}, and adpm runs LoRA on linear layers only yet",
        )
    inputs, outputs = sizes
    rank = int(_by_pattern(config.rank_pattern, name, config.r))
    alpha = _by_pattern(config.alpha_pattern, name, config.lora_alpha)
    slots = [Slot("A", "lora_A.weight", (rank, inputs)), Slot("B", "lora_B.weight", (outputs, rank))]
    if config.lora_bias:
        slots.append(Slot("c", "lora_B.bias", (outputs,)))
    if config.use_dora:
        slots.append(Slot("magnitude", "lora_magnitude_vector", (outputs,)))
    options = LowRankOptions(config.scale(rank, alpha), config.lora_dropout, chained=False, dora=config.use_dora)
    return Blueprint(
        key=name.replace(".", "/"),
        file=(f"{PREFIX}{name}.", ""),
        slots=tuple(slots),
        build=partial(LowRankPart, layer=name, options=options),
        start=partial(start_low_rank, "both" if config.init_lora_weights is False else "lora", module),
    )


def _saved(config: PeftLora, anatomy: Anatomy) -> list[str]:
    """The modules that are saved whole: any whose name ends so, without those inside another."""
    found = [name for name in anatomy.modules if name and name.endswith(config.modules_to_save or ("\0",))]
    return [name for name in found if not any(name.startswith(f"{outer}.") for outer in found)]


def _module(module: nn.Module, name: str) -> Blueprint:
    tensors = module.state_dict(keep_vars=True)
    return Blueprint(
        key=f"{name}.{MODULE}".replace(".", "/"),
        file=(f"{PREFIX}{name}.", ""),
        slots=tuple(Slot(key, key, tuple(tensor.shape)) for key, tensor in tensors.items()),
        build=partial(ModulePart, layer=name, original=module),
        start=partial(_copy, module),
    )


def _copy(module: nn.Module, tensors: Mapping[str, Tensor], generator: Generator | None) -> None:  # noqa: ARG001 - a Blueprint's start
    own = module.state_dict()
    for name, tensor in tensors.items():
        tensor.copy_(own[name])


def _biased(anatomy: Anatomy, saved: list[str]) -> Iterator[str]:
    for name in anatomy.modules:
        if name and not any(name == whole or name.startswith(f"{whole}.") for whole in saved):
            yield name


def _has_bias(anatomy: Anatomy, name: str) -> bool:
    return isinstance(anatomy.modules[name]._parameters.get("bias"), Tensor)  # noqa: SLF001 - not a child module's


def _bias(module: nn.Module, name: str, targeted: bool) -> Blueprint:
    bias = module.bias
    if not isinstance(bias, Tensor):
        raise TypeError("only modules with a bias come here")
    return Blueprint(
        key=f"{name}.{BIAS}".replace(".", "/"),
        file=(f"{PREFIX}{name}.{'base_layer.' if targeted else ''}", ""),
        slots=(Slot("bias", "bias", tuple(bias.shape)),),
        build=partial(BiasPart, layer=name),
        start=partial(_copy, module),
    )
