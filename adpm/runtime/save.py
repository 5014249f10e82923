"""An adapter as files that the peer of its format reads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from safetensors.torch import save
from torch import Tensor

from adpm.errors import AdapterError
from adpm.formats.adapterhub import AdapterHubConfig, HeadConfig, write_adapter_config, write_head_config
from adpm.formats.peft import PeftLora, write_peft_config
from adpm.runtime.adapter import Adapter, Source, blueprints_of
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.from_adapterhub import HEAD
from adpm.runtime.part import Part

__all__ = ["save_adapter"]

Format = Literal["adapterhub", "peft"]


def save_adapter(adapter: Adapter, name: str, anatomy: Anatomy, directory: Path, format: Format | None) -> None:  # noqa: A002 - the word users know
    """Write ``adapter`` into ``directory``, which is made where it is missing; files of the same names are replaced."""
    source = adapter.source
    own: Format = "adapterhub" if isinstance(source.config, AdapterHubConfig) else "peft"
    if format not in (None, own):
        raise AdapterError("format-unsupported", f"the adapter {name!r} can't be written in the format {format!r} yet")
    if isinstance(source.config, AdapterHubConfig):
        files = _hub_files(adapter, source.config, source.head, re.sub(r"[^A-Za-z0-9_-]", "_", name), anatomy)
    else:
        files = _peft_files(adapter, source.config, anatomy)
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)


def _hub_files(
    adapter: Adapter, config: AdapterHubConfig, head: HeadConfig | None, name: str, anatomy: Anatomy
) -> dict[str, bytes]:
    """Names carry the base's prefix, as from a model with heads: the peer reads them into either kind of model."""
    model_class = anatomy.family().adapterhub_class
    prefix = f"{anatomy.base_prefix}."
    tensors: dict[str, Tensor] = {}
    head_tensors: dict[str, Tensor] = {}
    for blueprint in blueprints_of(adapter.source, anatomy):
        part = adapter.parts[blueprint.key]
        for slot in blueprint.slots:
            for file in (slot.file, *slot.aliases):
                path = f"{blueprint.file[0]}{name}{blueprint.file[1]}{file}"
                if blueprint.key == HEAD:
                    head_tensors[path] = _tensor(part, slot.name)
                else:
                    tensors[prefix + path] = _tensor(part, slot.name)
    files = {
        "adapter_config.json": write_adapter_config(replace(config, name=name), model_class=model_class),
        "adapter.safetensors": save(tensors),
    }
    if head is not None:
        files["head_config.json"] = write_head_config(
            replace(head, name=name),
            model_class=model_class,
            model_type=config.model_type,
            model_name=config.model_name,
        )
        files["model_head.safetensors"] = save(head_tensors)
    return files


def _peft_files(adapter: Adapter, config: PeftLora, anatomy: Anatomy) -> dict[str, bytes]:
    tensors = {
        blueprint.file[0] + slot.file: _tensor(adapter.parts[blueprint.key], slot.name)
        for blueprint in blueprints_of(Source(config), anatomy)
        for slot in blueprint.slots
    }
    return {
        "adapter_config.json": write_peft_config(config),
        "adapter_model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def _tensor(part: object, slot: str) -> Tensor:
    """The slot's values in memory of their own: files repeat some tensors under two names."""
    if not isinstance(part, Part):
        raise TypeError("an adapter is made of parts")
    return part.tensor(slot).detach().to("cpu").clone().contiguous()
