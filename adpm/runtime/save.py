"""An adapter as files that the peer of its format reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from safetensors.torch import save
from torch import Tensor

from adpm.errors import UsageError
from adpm.formats.adapterhub import AdapterHubConfig, write_adapter_config
from adpm.formats.adapterhub_heads import write_head_config
from adpm.formats.peft import PeftMethod, write_peft_config
from adpm.runtime.adapter import Adapter, Source, blueprints_of
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.convert import Slots, to_adapterhub, to_peft
from adpm.runtime.from_adapterhub import HEAD

__all__ = ["save_adapter"]

Format = Literal["adapterhub", "peft"]


def save_adapter(adapter: Adapter, name: str, anatomy: Anatomy, directory: Path, format: Format | None) -> None:  # noqa: A002 - the word users know
    """Write ``adapter`` into ``directory``, which is made where it is missing; files of the same names are replaced."""
    if format not in (None, "adapterhub", "peft"):
        raise UsageError("format-unknown", f"{format!r} is no format", hint="formats are adapterhub and peft")
    source: Source = adapter.source
    parts: Mapping[str, Slots] = adapter.parts
    own = "adapterhub" if isinstance(source.config, AdapterHubConfig) else "peft"
    if format not in (None, own):
        source, parts = (to_peft if format == "peft" else to_adapterhub)(adapter, name, anatomy)
    if isinstance(source.config, AdapterHubConfig):
        files = _hub_files(source, parts, re.sub(r"[^A-Za-z0-9_-]", "_", name), anatomy)
    else:
        files = _peft_files(source, parts, anatomy)
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)


def _hub_files(source: Source, parts: Mapping[str, Slots], name: str, anatomy: Anatomy) -> dict[str, bytes]:
    """Names carry the base's prefix, as from a model with heads: the peer reads them into either kind of model."""
    model_class = anatomy.family().adapterhub_class or type(anatomy.model).__name__
    prefix = anatomy.hub_prefix
    tensors: dict[str, Tensor] = {}
    head_tensors: dict[str, Tensor] = {}
    for blueprint in blueprints_of(source, anatomy):
        for slot in blueprint.slots:
            for file in (slot.file, *slot.aliases):
                path = f"{blueprint.file[0]}{name}{blueprint.file[1]}{file}"
                value = _values(parts[blueprint.key], slot.name)
                if blueprint.key == HEAD:
                    head_tensors[path] = value
                else:
                    tensors[prefix + path] = value
    config = replace(
        cast("AdapterHubConfig", source.config),
        name=name,
        model_type=anatomy.model_type,
        hidden_size=anatomy.hidden_size,
    )
    files = {
        "adapter_config.json": write_adapter_config(config, model_class=model_class),
        "adapter.safetensors": save(tensors),
    }
    if source.head is not None:
        head = replace(source.head, name=name, hidden_size=anatomy.hidden_size)
        files["head_config.json"] = write_head_config(
            head, model_class=model_class, model_type=config.model_type, model_name=config.model_name
        )
        files["model_head.safetensors"] = save(head_tensors)
    return files


def _peft_files(source: Source, parts: Mapping[str, Slots], anatomy: Anatomy) -> dict[str, bytes]:
    tensors = {
        blueprint.file[0] + slot.file: _values(parts[blueprint.key], slot.name)
        for blueprint in blueprints_of(source, anatomy)
        if blueprint.stored
        for slot in blueprint.slots
    }
    return {
        "adapter_config.json": write_peft_config(cast("PeftMethod", source.config)),
        "adapter_model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def _values(part: Slots, slot: str) -> Tensor:
    """The slot's values in memory of their own: files repeat some tensors under two names."""
    return part[slot].detach().to("cpu").clone().contiguous()
