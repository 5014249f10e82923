"""Files in AdapterHub's or PEFT's format to an adapter, every fault found before anything is built."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.errors import AdapterError, BaseMismatchError, NotFoundError
from adpm.formats.adapterhub import AdapterHubConfig, read_adapter_config
from adpm.formats.adapterhub_heads import read_head_config
from adpm.formats.adapterhub_methods import Bottleneck
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.peft import PeftMethod, read_peft_config
from adpm.formats.pickles import unpickle
from adpm.formats.safetensors import Tensor as Entry
from adpm.runtime.adapter import Adapter, Source, anatomy_of, blueprints_of, build
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.from_adapterhub import HEAD, INVERSE
from adpm.runtime.from_peft import PREFIX, SHARED
from adpm.runtime.identity import identify
from adpm.runtime.part import Blueprint
from adpm.runtime.weights import DTYPES, WHOLE, Buffer, Weights, map_file

__all__ = [
    "HEAD_CONFIG",
    "Present",
    "check_base",
    "check_model",
    "document",
    "read_adapter",
    "read_directory",
    "weights_of",
]

CONFIG: Final = "adapter_config.json"
HEAD_CONFIG: Final = "head_config.json"
# Weights by what they hold, in the order of preference.
_ADAPTERHUB: Final = ("adapter.safetensors", "pytorch_adapter.bin")
_ADAPTERHUB_HEAD: Final = ("model_head.safetensors", "pytorch_model_head.bin")
_PEFT: Final = ("adapter_model.safetensors", "adapter_model.bin")
_COPY: Final = re.compile(r"(.+?)\.(?:original_module|modules_to_save)\.(.+)\Z")
_POOL: Final = ".prefix_tuning.pool.prefix_tunings."
_POOLED: Final = "prefix_tuning.prefix_tunings."
_TOKENS: Final = ".trainable_tokens_delta"
_BASE: Final = re.compile(r"\.base_layer\.(weight|bias)\Z")
# AdapterHub's names for modules until version 2.
_OLD_MODULES: Final = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
    "invertible_lang_adapters": "invertible_adapters",
}


def read_directory(directory: Path, names: tuple[str, ...] | None = None) -> dict[str, Buffer]:
    """The files in ``directory`` that an adapter may have, or those of ``names``, in memory."""
    names = names or (CONFIG, HEAD_CONFIG, *_ADAPTERHUB, *_ADAPTERHUB_HEAD, *_PEFT)
    there = {entry.name for entry in os.scandir(directory) if entry.is_file()} if directory.is_dir() else set()
    files: dict[str, Buffer] = {name: map_file(directory / name) for name in names if name in there}
    if not files:
        raise NotFoundError("adapter-not-found", f"{directory} holds no adapter", hint=f"it would have a file {CONFIG}")
    return files


def read_adapter(
    files: Mapping[str, Buffer], anatomy: Anatomy, *, source: str, base: BaseIdentity | None = None
) -> Adapter:
    """The adapter in ``files`` (path -> content), made for this model and bound to the files' bytes.

    ``source`` names the files in errors; ``base`` is what the adapter is known to be trained on. Other files are not
    looked at. Raises ``DocumentError`` (``adapter-config-invalid``, ``safetensors-invalid``), ``AdapterError``
    (``method-unsupported``, ``family-unsupported``, ``adapter-misfit``, ``pickle-refused``), ``BaseMismatchError``
    (``base-mismatch``) and ``NotFoundError`` (``adapter-not-found``); the model is not touched.
    """
    if base is not None:
        check_base(base, anatomy, source)
    settings = _settings(files, anatomy, source)
    weights = weights_of(files, _kinds(settings), source)
    if isinstance(settings.config, PeftMethod):
        shapes = {name: entry.shape for file in weights for name, entry in file.header.tensors.items()}
        config = settings.config.as_stored(shapes)
        settings = replace(settings, config=config, renamed=_is_renamed(weights, settings, anatomy))
    anatomy = anatomy_of(settings, anatomy)
    blueprints = blueprints_of(settings, anatomy)
    present = Present(weights, settings, anatomy)
    if isinstance(settings.config, AdapterHubConfig) and settings.config.old_task:
        settings, blueprints = _without_unused_inverse(settings, blueprints, present)
    tensors = present.match(blueprints, source)
    return build(settings, blueprints, tensors)


def _is_renamed(files: list[Weights], settings: Source, anatomy: Anatomy) -> bool:
    """Whether the files name the model's modules as another release of transformers does."""
    other = anatomy.renamed
    if other is None:
        return False
    own, others = (Present(files, settings, one).depth() for one in (anatomy, other))
    return others > own


def check_base(base: BaseIdentity, anatomy: Anatomy, source: str) -> None:
    """Raise ``BaseMismatchError`` where an adapter trained on ``base`` does not belong to the model."""
    reason = base.misfit(identify(anatomy.model))
    if reason is not None:
        raise BaseMismatchError("base-mismatch", f"{source} was made for another base model", cause=reason)


def _settings(files: Mapping[str, Buffer], anatomy: Anatomy, source: str) -> Source:
    if CONFIG not in files:
        raise NotFoundError("adapter-not-found", f"{source} has no {CONFIG}")
    data, where = document(files[CONFIG]), f"{source}/{CONFIG}"
    if any(name in files for name in _PEFT) or b'"peft_type"' in data:
        return Source(read_peft_config(data, source=where))
    config = read_adapter_config(data, source=where)
    check_model(config.model_type, config.hidden_size, anatomy, source)
    if HEAD_CONFIG not in files:
        return Source(config)
    head = read_head_config(document(files[HEAD_CONFIG]), source=f"{source}/{HEAD_CONFIG}")
    return Source(config, head)


def document(data: Buffer) -> bytes:
    """The content, or as much of it as shows that it is too long."""
    return bytes(memoryview(data)[: limits.CONFIG_BYTES + 1])


def check_model(model_type: str | None, hidden_size: int | None, anatomy: Anatomy, source: str) -> None:
    reason = None
    if model_type is not None and model_type != anatomy.model_type:
        reason = f"it is for model type {model_type}, and this is {anatomy.model_type}"
    elif hidden_size is not None and hidden_size != anatomy.hidden_size:
        reason = f"it is for hidden size {hidden_size}, and this has {anatomy.hidden_size}"
    if reason is not None:
        raise BaseMismatchError("base-mismatch", f"{source} was made for another base model", cause=reason)


def _kinds(settings: Source) -> tuple[tuple[str, ...], ...]:
    """Which weight files belong to ``settings``."""
    if not isinstance(settings.config, AdapterHubConfig):
        return (_PEFT,)
    return (_ADAPTERHUB,) if settings.head is None else (_ADAPTERHUB, _ADAPTERHUB_HEAD)


def weights_of(files: Mapping[str, Buffer], kinds: tuple[tuple[str, ...], ...], source: str) -> list[Weights]:
    """One weight file of each kind, the first of its names; pickles are converted in one process."""
    chosen: dict[str, Buffer] = {}
    for kind in kinds:
        name = next((name for name in kind if name in files), None)
        if name is None:
            raise NotFoundError("adapter-not-found", f"{source} has no weights", cause=f"neither {' nor '.join(kind)}")
        chosen[name] = files[name]
    pickles = {name: data for name, data in chosen.items() if name.endswith(".bin")}
    if pickles:
        chosen |= unpickle(pickles, source=source)
    return [Weights(data, f"{source}/{name}") for name, data in chosen.items()]


@dataclass
class _Faults:
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    nonfinite: list[str] = field(default_factory=list)

    def check(self, anatomy: Anatomy, source: str) -> None:
        """Raise ``AdapterError`` (``adapter-misfit``) with all faults, if there are any."""
        groups = {"missing": self.missing, "surplus": self.surplus, "wrong": self.wrong, "not finite": self.nonfinite}
        lines = [f"{title}: {_shown(names)}" for title, names in groups.items() if names]
        if lines:
            raise AdapterError(
                "adapter-misfit",
                f"the tensors in {source} do not fit {type(anatomy.model).__name__}",
                cause="\n".join(lines),
                hint="adapter, config and model must belong together",
                missing=tuple(self.missing),
                surplus=tuple(self.surplus),
                wrong=tuple(self.wrong),
                nonfinite=tuple(self.nonfinite),
            )


def _shown(names: list[str]) -> str:
    more = len(names) - limits.DOCUMENT_FAULTS
    return ", ".join(names[: limits.DOCUMENT_FAULTS]) + (f", and {more} more" if more > 0 else "")


class Present:
    """The tensors in the files, by names as they are on this model."""

    def __init__(self, files: list[Weights], settings: Source, anatomy: Anatomy) -> None:
        self.files = files
        self.anatomy = anatomy
        self.settings = settings
        self.like = anatomy.weight
        self.hub = isinstance(settings.config, AdapterHubConfig)
        rename = self._hub_name if self.hub else self._peft_name
        self.entries = {
            rename(name): (weights, entry) for weights in files for name, entry in weights.header.tensors.items()
        }

    def _hub_name(self, name: str) -> str:
        name = name.removeprefix(self.anatomy.hub_prefix)
        if _POOL in name:  # the peer repeats a model's prefixes in each of its attentions
            name = _POOLED + name.partition(_POOL)[2]
        return ".".join(_OLD_MODULES.get(part, part) for part in name.split("."))

    def _peft_name(self, name: str) -> str:
        """PEFT's name with or without the base's prefix, as this model has it."""
        if not name.startswith(PREFIX):
            return name
        path, prefix = name.removeprefix(PREFIX), f"{self.anatomy.base_prefix}."
        if not self.anatomy.prefix:
            path = path.removeprefix(prefix)
        elif path.split(".")[0] not in self.anatomy.modules:
            path = prefix + path
        return PREFIX + path

    def depth(self) -> int:
        """How many steps from the model to its modules the tensors' names go, together."""
        steps = 0
        for name in self.entries:
            path = name.removeprefix(PREFIX)
            while path and path not in self.anatomy.modules:
                path = path.rpartition(".")[0]
            steps += path.count(".") + bool(path)
        return steps

    def match(self, blueprints: tuple[Blueprint, ...], source: str) -> dict[str, dict[str, Tensor]]:
        """The tensors of each part, or one error that names all that is missing, surplus, wrong or not finite."""
        faults = _Faults(nonfinite=[name for weights in self.files for name in weights.nonfinite()])
        used: set[str] = set()
        out: dict[str, dict[str, Tensor]] = {}
        for blueprint in blueprints:
            tensors = out[blueprint.key] = {} if blueprint.stored else blueprint.new(self.like, None)
            if not blueprint.stored:
                continue
            prefix = self._prefix(blueprint)
            for slot in blueprint.slots:
                names = [prefix + slot.file, *(prefix + alias for alias in slot.aliases)]
                tensor = None
                for name in names:
                    if name in self.entries:
                        used.add(name)
                        tensor = self._bind(slot, name, tensor, faults)
                if tensor is not None:
                    tensors[slot.name] = tensor
                elif used.isdisjoint(names):
                    faults.missing.append(names[0])
        if len(used) < len(self.entries):
            faults.surplus += [name for name in self.entries if name not in used and not self._is_left_over(name)]
        faults.check(self.anatomy, source)
        return out

    def _prefix(self, blueprint: Blueprint) -> str:
        """What stands before a part's tensors: AdapterHub has the adapter's or the head's name in it."""
        before, after = blueprint.file
        config, head = self.settings.config, self.settings.head
        if blueprint.key == HEAD and head is not None:
            return before + head.name + after
        return before + config.name + after if isinstance(config, AdapterHubConfig) else before

    def _bind(self, slot: Slot, name: str, other: Tensor | None, faults: _Faults) -> Tensor | None:
        """The tensor called ``name``; ``other`` is the same one under another name."""
        weights, entry = self.entries[name]
        if entry.shape != slot.shape or not (entry.dtype in DTYPES or (slot.whole and entry.dtype in WHOLE)):
            faults.wrong.append(f"{name} ({_entry_fault(slot, entry)})")
            return other
        bound = weights.bind(entry)
        if slot.whole:
            if not _counts(bound, slot.below):
                faults.wrong.append(f"{name} (has numbers below 0, or from {max(slot.below)} on)")
            bound = bound.to(dtype=torch.int32, device=self.like.device)
        elif bound.dtype != self.like.dtype or bound.device != self.like.device:
            bound = bound.to(self.like)
        if other is not None and not torch.equal(bound, other):
            faults.wrong.append(f"{name} (differs from the same tensor under another name)")
        return bound

    def _are_equal(self, name: str, other: str) -> bool:
        """Whether two names in the files are of one tensor."""
        (weights, entry), (others, two) = self.entries[name], self.entries[other]
        return name != other and entry.shape == two.shape and torch.equal(weights.bind(entry), others.bind(two))

    def _is_left_over(self, name: str) -> bool:
        """What PEFT writes beside an adapter: a saved module's biases under two more names, which it does not read, the
        whole of an output layer that is targeted, where it is the base's own, and what modules share (new
        vectors of tokens, RandLoRA's bases) once for each of them."""
        if self.hub:
            return False
        if _BASE.search(name):
            return self._is_the_base_s(name)
        common = f"{SHARED}{name.rpartition('.')[2]}"
        same = [other for other in self.entries if other.endswith(_TOKENS)] if name.endswith(_TOKENS) else [common]
        if any(other in self.entries and self._are_equal(name, other) for other in same):
            return True
        found = _COPY.match(name)
        if found is None:
            return False
        rest = found[2], found[2].partition(".")[2]  # the second: behind the adapter's name
        return any(f"{found[1]}.{path}" in self.entries for path in rest if path)

    def _is_the_base_s(self, name: str) -> bool:
        """Whether a file's copy of a weight or bias of the base is what the base has."""
        module = self.anatomy.modules.get(_BASE.sub("", name.removeprefix(PREFIX)))
        own = getattr(module, name.rpartition(".")[2], None)
        weights, entry = self.entries[name]
        if not isinstance(own, Tensor) or entry.shape != tuple(own.shape) or entry.dtype not in DTYPES:
            return False
        return torch.equal(weights.bind(entry).to(self.like), own)


def _counts(numbers: Tensor, below: tuple[int, ...]) -> bool:
    """Whether whole ``numbers`` are what a slot may hold."""
    most = torch.tensor(below).view(-1, *(1,) * (numbers.dim() - 1))
    return bool(((numbers >= 0) & (numbers < most)).all())


def _entry_fault(slot: Slot, entry: Entry) -> str:
    if entry.dtype not in DTYPES and not (slot.whole and entry.dtype in WHOLE):
        return f"its dtype is {entry.dtype}"
    return f"its shape is {list(entry.shape)}, expected {list(slot.shape)}"


def _without_unused_inverse(
    settings: Source, blueprints: tuple[Blueprint, ...], present: Present
) -> tuple[Source, tuple[Blueprint, ...]]:
    """Task adapters from before version 2 name an invertible block in their config that they do not have."""
    if any("invertible_adapters." in name for name in present.entries):
        return settings, blueprints
    config = settings.config
    if isinstance(config, AdapterHubConfig):
        methods = tuple(
            replace(method, inv_adapter=None) if isinstance(method, Bottleneck) else method for method in config.methods
        )
        settings = replace(settings, config=replace(config, methods=methods))
    return settings, tuple(blueprint for blueprint in blueprints if blueprint.key != INVERSE)
