"""Which base a live model is: its shape and a sketch of its weights, equal to what its files would give."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import torch
from torch import Tensor, nn

from adpm.core.base import BaseIdentity, Shape, Sketch, half, positions, shape_of_config
from adpm.runtime.anatomy import HANDLE, Anatomy
from adpm.runtime.sites import FAMILIES

__all__ = ["identify"]

_COARSE_FIRST: Final = ("bfloat16", "float16", "float32", "float64")


def identify(model: nn.Module) -> BaseIdentity:
    """The model's identity; weights of attached adapters do not count. Cost: ``SKETCH_SAMPLES`` reads."""
    config = getattr(model, "config", None)
    values = config.to_dict() if config is not None and hasattr(config, "to_dict") else {}
    shape: Shape | None = shape_of_config(values) if values else None
    name = values.get("_name_or_path") or getattr(config, "_name_or_path", None) or None
    return BaseIdentity(model=name, revision=None, shape=shape, sketch=_sketch(model))


def _as_in_files(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` by the names that checkpoints have, where a release of transformers calls modules otherwise."""
    table = FAMILIES.get(str(getattr(getattr(model, "config", None), "model_type", "")))
    if table is None or not any(stack.files for stack in table.stacks):
        return weights
    anatomy = Anatomy(model)
    parts = {name: name.rpartition(".") for name in weights}
    return {f"{anatomy.file_name(parts[name][0])}.{parts[name][2]}": weight for name, weight in weights.items()}


def _sketch(model: nn.Module) -> Sketch | None:
    base = ((name, p) for name, p in model.named_parameters() if name.split(".")[0] != HANDLE)
    weights = _as_in_files(model, {name: parameter for name, parameter in base if parameter.is_floating_point()})
    chosen = positions({name: tuple(weight.shape) for name, weight in weights.items()})
    if not chosen:
        return None
    wanted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, (name, index) in enumerate(chosen):
        wanted[name].append((place, index))
    sampled = [0.0] * len(chosen)
    for name, places in wanted.items():
        flat = weights[name].detach().reshape(-1)
        picked = flat[torch.tensor([index for _, index in places], device=flat.device)]
        for (place, _), value in zip(places, picked.tolist(), strict=True):
            sampled[place] = half(value)
    # The coarsest dtype decides how far rounding may have moved the values.
    dtypes = {str(weights[name].dtype).removeprefix("torch.") for name, _ in chosen}
    return Sketch(min(dtypes, key=_COARSE_FIRST.index), tuple(sampled)) if dtypes <= set(_COARSE_FIRST) else None
