"""What a package's files are together: which peer's format, which method, and whether weights and config agree.

Checked without torch and without the model: tensors that no part of the config accounts for, and shapes that the
config rules out. What only the model can tell (which modules exist) the runtime checks when it loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from adpm import limits
from adpm.core.base import Shape
from adpm.core.release import Method
from adpm.errors import AdapterError, DocumentError, Fault
from adpm.formats import adapterhub_tensors as tensors
from adpm.formats.adapterhub import AdapterHubConfig, read_adapter_config
from adpm.formats.adapterhub_fusion import FUSION_CONFIG, read_fusion_config
from adpm.formats.adapterhub_heads import head_slots, read_head_config
from adpm.formats.adapterhub_methods import Bottleneck, LowRank
from adpm.formats.json import parse_json
from adpm.formats.peft import PeftLora, read_peft_config
from adpm.formats.safetensors import Header, read_header

__all__ = ["check_contents", "method_of"]

Files = Mapping[str, memoryview]

_CONFIG: Final = "adapter_config.json"
_HEAD_CONFIG: Final = "head_config.json"
_ADAPTERHUB_WEIGHTS: Final = "adapter.safetensors"
_HEAD_WEIGHTS: Final = "model_head.safetensors"
_FUSION_WEIGHTS: Final = "model_adapter_fusion.safetensors"
_PEFT_WEIGHTS: Final = "adapter_model.safetensors"
_ANY: Final = -1  # a dimension that only the model can tell
_PLACE: Final = re.compile(r"(?:^|\.)(adapters|loras|shared_parameters|invertible_adapters)\.([^.]+)\.(.+)$")


def check_contents(files: Files, shape: Shape | None, *, source: str) -> Method:
    """The method of the package ``files`` (path to bytes), trained for a base of ``shape`` if that is known.

    Every safetensors file is checked, whatever its name. Methods that the runtime doesn't run yet are accepted with
    their own names: they can be shared all the same. Raises ``AdapterError`` (``adapter-files-missing``), and, with all
    faults, ``DocumentError`` (``safetensors-invalid``, ``adapter-config-invalid``, ``adapter-weights-invalid``).
    """
    headers = {
        path: read_header(data, source=f"{source}/{path}")
        for path, data in files.items()
        if path.endswith(".safetensors")
    }
    config = _json_object(files, _CONFIG, source)
    if "peft_type" in config:
        _need(files, _PEFT_WEIGHTS, source)
        return _peft(config, files, headers, source)
    _need(files, _ADAPTERHUB_WEIGHTS, source)
    return _adapterhub(config, files, headers, shape, source)


def _json_object(files: Files, name: str, source: str) -> dict[str, Any]:
    _need(files, name, source)
    value = parse_json(
        bytes(files[name]), source=f"{source}/{name}", code="adapter-config-invalid", limit=limits.CONFIG_BYTES
    )
    if not isinstance(value, dict):
        raise DocumentError("adapter-config-invalid", f"{source}/{name}", [Fault("", "is not a JSON object")])
    return value


def _need(files: Files, name: str, source: str) -> None:
    if name not in files:
        raise AdapterError(
            "adapter-files-missing",
            f"{source} has no {name}",
            cause=f"it holds {', '.join(sorted(files)) or 'no files'}",
            hint="a package holds what PEFT or AdapterHub save with safetensors: adapter_config.json and the weights",
        )


def method_of(config: Mapping[str, Any]) -> Method:
    """What the content of an ``adapter_config.json`` calls its method; nothing is checked."""
    if "peft_type" in config:
        return Method("peft", str(config["peft_type"]).lower())
    nested = config.get("config")
    return Method(
        "adapterhub", str(nested.get("architecture") or "bottleneck") if isinstance(nested, dict) else "unknown"
    )


def _peft(config: dict[str, Any], files: Files, headers: Mapping[str, Header], source: str) -> Method:
    named = method_of(config)
    try:
        method = read_peft_config(bytes(files[_CONFIG]), source=f"{source}/{_CONFIG}")
    except AdapterError as error:
        if error.code != "method-unsupported":
            raise
        return named
    if isinstance(method, PeftLora):
        _report(_peft_faults(method, headers[_PEFT_WEIGHTS]), f"{source}/{_PEFT_WEIGHTS}")
    return named


def _peft_faults(config: PeftLora, header: Header) -> Iterator[Fault]:
    ranks = {config.r, *(rank for _, rank in config.rank_pattern)}
    for name, tensor in header.tensors.items():
        if not name.startswith("base_model.model."):
            yield Fault(name, "does not begin with 'base_model.model.', as PEFT writes names")
        for part, dimension in (("lora_A.weight", 0), ("lora_B.weight", 1)):
            if name.endswith(f".{part}") and tensor.shape[dimension] not in ranks:
                yield Fault(name, f"has shape {list(tensor.shape)}, but the config says rank {_any_of(ranks)}")
    if not any(".lora_" in name for name in header.tensors):
        yield Fault("", "holds no LoRA weights, though the config says LORA")


def _adapterhub(
    value: dict[str, Any], files: Files, headers: Mapping[str, Header], shape: Shape | None, source: str
) -> Method:
    method = method_of(value)
    try:
        config = read_adapter_config(bytes(files[_CONFIG]), source=f"{source}/{_CONFIG}")
    except AdapterError as error:
        if error.code != "method-unsupported":
            raise
        return method
    hidden = config.hidden_size or dict(shape.dimensions if shape else ()).get("hidden_size", _ANY)
    _report(_adapterhub_faults(config, headers[_ADAPTERHUB_WEIGHTS], hidden), f"{source}/{_ADAPTERHUB_WEIGHTS}")
    if shape is not None and hidden != dict(shape.dimensions).get("hidden_size", hidden):
        wide = dict(shape.dimensions)["hidden_size"]
        _report([Fault("hidden_size", f"is {hidden}, but the base has {wide}")], f"{source}/{_CONFIG}")
    if _HEAD_CONFIG in files or _HEAD_WEIGHTS in files:
        _check_head(files, headers, hidden, source)
    if FUSION_CONFIG in files or _FUSION_WEIGHTS in files:
        _need(files, FUSION_CONFIG, source)
        _need(files, _FUSION_WEIGHTS, source)
        read_fusion_config(bytes(files[FUSION_CONFIG]), source=f"{source}/{FUSION_CONFIG}")
    return method


def _adapterhub_faults(config: AdapterHubConfig, header: Header, hidden: int) -> Iterator[Fault]:
    expected = _expected(config, hidden)
    others = not all(isinstance(method, Bottleneck | LowRank) for method in config.methods)
    found = False
    for name, tensor in header.tensors.items():
        place = _PLACE.search(name)
        if others and (place is None or (place[1], place[3]) not in expected):
            found = True  # of prefixes, prompts and interventions only the model can tell what they look like
            continue
        if place is None or place[2] != config.name:
            yield Fault(name, f"is no tensor of an adapter named {config.name!r}")
            continue
        found = True
        shapes = expected.get((place[1], place[3]))
        if shapes is None:
            yield Fault(name, "is a tensor that the config does not call for")
        elif not any(_fits(tensor.shape, shape) for shape in shapes):
            wanted = _any_of(str(list(shape)).replace(str(_ANY), "any") for shape in sorted(shapes))
            yield Fault(name, f"has shape {list(tensor.shape)}, but the config says {wanted}")
    if not found:
        yield Fault("", f"holds no weights of an adapter named {config.name!r}")


def _expected(config: AdapterHubConfig, hidden: int) -> dict[tuple[str, str], set[tuple[int, ...]]]:
    """(section, name in the file) to the shapes that some layer of some method may have."""
    out: dict[tuple[str, str], set[tuple[int, ...]]] = {}

    def add(section: str, slots: Iterable[tensors.Slot]) -> None:
        for slot in slots:
            for file in (slot.file, *slot.aliases):
                out.setdefault((section, file), set()).add(slot.shape)

    for method in config.methods:
        if isinstance(method, Bottleneck):
            for units in _widths(method, hidden):
                add("adapters", tensors.bottleneck_slots(method, hidden, units))
                add("shared_parameters", tensors.shared_slots(method, hidden, units))
            if method.inv_adapter:
                add("invertible_adapters", tensors.inverse_slots(method, hidden))
        elif isinstance(method, LowRank):
            add("loras", tensors.low_rank_slots(method, _ANY, _ANY))
            add("shared_parameters", tensors.shared_low_rank_slots(method, _ANY, _ANY))
    return out


def _widths(method: Bottleneck, hidden: int) -> set[int]:
    if hidden == _ANY:
        return {_ANY}
    factor = method.reduction_factor
    factors = [f for _, f in factor] if isinstance(factor, tuple) else [factor]
    return {tensors.width(hidden, f) for f in factors}


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w < 0 or s == w for s, w in zip(shape, wanted, strict=True))


def _check_head(files: Files, headers: Mapping[str, Header], hidden: int, source: str) -> None:
    _need(files, _HEAD_CONFIG, source)
    _need(files, _HEAD_WEIGHTS, source)
    try:
        head = read_head_config(bytes(files[_HEAD_CONFIG]), source=f"{source}/{_HEAD_CONFIG}")
    except AdapterError as error:
        if error.code != "method-unsupported":
            raise
        return
    wanted = {f"heads.{head.name}.{slot.file}": slot.shape for slot in head_slots(head, hidden)}
    header = headers[_HEAD_WEIGHTS]
    faults = [Fault(name, "is a tensor that the config does not call for") for name in header.tensors.keys() - wanted]
    for name, shape in wanted.items():
        if name not in header.tensors:
            faults.append(Fault(name, "is missing"))
        elif not _fits(header.tensors[name].shape, shape):
            faults.append(
                Fault(name, f"has shape {list(header.tensors[name].shape)}, but the config says {list(shape)}")
            )
    _report(faults, f"{source}/{_HEAD_WEIGHTS}")


def _report(faults: Iterable[Fault], source: str) -> None:
    found = sorted(faults, key=lambda fault: fault.path)
    if found:
        raise DocumentError(
            "adapter-weights-invalid",
            source,
            found[: limits.DOCUMENT_FAULTS],
            hint="config and weights are not of one adapter; save it again",
        )


def _any_of(values: Iterable[object]) -> str:
    return " or ".join(sorted(map(str, values)))
