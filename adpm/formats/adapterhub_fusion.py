"""AdapterHub's ``adapter_fusion_config.json`` as a frozen value, read strictly and written back.

Source: ``adapters`` 1.3.0, ``configuration/adapter_fusion_config.py``, ``methods/modeling.py`` (``BertFusion``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast

from adpm import limits
from adpm.formats.adapterhub import VERSION
from adpm.formats.adapterhub_keys import close_unless_off, probability
from adpm.formats.adapterhub_tensors import Slot
from adpm.formats.json import open_json, parse_json, pretty
from adpm.formats.reader import Decoder, Document, Node, flag, integer, list_of, text

__all__ = [
    "ADAPTER_CONFIG",
    "FUSIONS",
    "FUSION_CONFIG",
    "FusionConfig",
    "fusion_of",
    "fusion_slots",
    "read_fusion_config",
    "told_names",
    "write_fusion_config",
]

ADAPTER_CONFIG: Final = "adapter_config.json"
FUSION_CONFIG: Final = "adapter_fusion_config.json"

_CODE: Final = "adapter-config-invalid"


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """How the outputs of adapters are weighed. Names as in the peer; ``names`` are the fused adapters' there."""

    names: tuple[str, ...] = ()
    key: bool = True
    query: bool = True
    value: bool = True
    query_before_ln: bool = False
    regularization: bool = True
    residual_before: bool = False
    temperature: bool = False
    value_before_softmax: bool = True
    value_initialized: bool = True
    dropout_prob: float | None = None
    model_type: str | None = None
    model_name: str | None = None
    hidden_size: int | None = None


FUSIONS: Final[Mapping[str, FusionConfig]] = {
    "dynamic": FusionConfig(),
    "static": FusionConfig(value=False, regularization=False, value_initialized=False),
}
_FLAGS: Final = tuple(field.name for field in fields(FusionConfig) if field.type == "bool")


def _started(node: Node) -> bool:
    """``value_initialized`` is a text by its type and true or false by its use; only whether it is off matters."""
    return node.value not in (False, None, "", "False", "false")


_FUSION: Final[dict[str, Decoder[Any]]] = {
    **dict.fromkeys(_FLAGS, flag),
    "value_initialized": _started,
    "dropout_prob": probability,
}


def _config(node: Node) -> FusionConfig:
    found = node.fields()
    values: dict[str, Any] = {}
    for key, decoder in _FUSION.items():
        value = found.get(key, decoder)
        if value is not None:
            values[key] = value
        elif key in found and key in _FLAGS:
            values[key] = False
    close_unless_off(node, (*_FUSION,))
    return FusionConfig(**values)


def fusion_of(value: Mapping[str, Any], *, source: str) -> FusionConfig:
    """A fusion's settings as a value; raises ``DocumentError`` (``adapter-config-invalid``)."""
    document = Document(dict(value), source=source, code=_CODE)
    config = document.root.decode(_config)
    document.finish()
    return cast("FusionConfig", config)


def _named(node: Node) -> FusionConfig:
    return FUSIONS[node.value] if isinstance(node.value, str) and node.value in FUSIONS else _config(node)


def read_fusion_config(data: bytes, *, source: str) -> FusionConfig:
    """Read ``adapter_fusion_config.json``; faults as in :func:`fusion_of`."""
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    found = document.root.decode(Node.fields)
    document.finish()
    if found is None:
        raise TypeError("finish() raises where there is no mapping")
    config = found.need("config", _named)
    names = found.get("adapter_names", list_of(text, most=limits.COMPOSITION_LEAVES))
    name = found.get("name", text)
    model_type, model_name = found.get("model_type", text), found.get("model_name", text)
    hidden_size = found.get("hidden_size", integer(1, limits.TENSOR_WIDTH))
    if names is None and name is None:
        found.need("name", text)
    document.finish()
    return replace(
        config,
        names=tuple(names or cast("str", name).split(",")),
        model_type=model_type,
        model_name=model_name,
        hidden_size=hidden_size,
    )


def told_names(files: Mapping[str, bytes | memoryview], *, source: str) -> tuple[str | None, tuple[str, ...] | None]:
    """What a package's config calls its adapter, by which fusions know it; and for which the fusion with it was made.

    None where the files say nothing of it. Raises ``DocumentError`` (``adapter-config-invalid``).
    """
    own: str | None = None
    if ADAPTER_CONFIG in files:
        value = parse_json(
            bytes(files[ADAPTER_CONFIG]), source=f"{source}/{ADAPTER_CONFIG}", code=_CODE, limit=limits.CONFIG_BYTES
        )
        name = value.get("name") if isinstance(value, dict) else None
        own = name if isinstance(name, str) else None
    if FUSION_CONFIG not in files:
        return own, None
    return own, read_fusion_config(bytes(files[FUSION_CONFIG]), source=f"{source}/{FUSION_CONFIG}").names


def fusion_value(config: FusionConfig) -> dict[str, Any]:
    """The settings as the mapping that :func:`fusion_of` reads."""
    return {key: getattr(config, key) for key in _FUSION}


def write_fusion_config(config: FusionConfig, *, model_class: str) -> bytes:
    """The bytes of an ``adapter_fusion_config.json`` that AdapterHub and adpm read as ``config``."""
    return pretty(
        {
            "adapter_names": list(config.names),
            "config": fusion_value(config),
            "hidden_size": config.hidden_size,
            "model_class": model_class,
            "model_name": config.model_name,
            "model_type": config.model_type,
            "name": ",".join(config.names),
            "version": VERSION,
        }
    )


def fusion_slots(config: FusionConfig, hidden: int) -> tuple[Slot, ...]:
    """The tensors of one fusion layer. Keys follow ``...adapter_fusion_layer.NAMES.``."""
    out: list[Slot] = []
    if not (config.query or config.key or config.value):  # the peer has a layer then that it never uses
        return (Slot("dense_weight", "dense.weight", (1, hidden)), Slot("dense_bias", "dense.bias", (1,)))
    for name in ("query", "key"):
        if getattr(config, name):
            out.append(Slot(f"{name}_weight", f"{name}.weight", (hidden, hidden)))
            out.append(Slot(f"{name}_bias", f"{name}.bias", (hidden,)))
    if config.value:
        out.append(Slot("value_weight", "value.weight", (hidden, hidden)))
    return tuple(out)
