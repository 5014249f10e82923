"""AdapterHub's ``adapter_config.json`` and ``head_config.json`` as frozen values, read strictly and written back.

Source: ``adapters`` 1.3.0, ``loading.py``, ``heads/base.py``. ``specs/adapterhub.md`` is normative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from packaging.version import InvalidVersion, Version

from adpm import limits
from adpm.errors import AdapterError
from adpm.formats.adapterhub_keys import WIDTH, activation, close_unless_off, probability, stated
from adpm.formats.adapterhub_methods import (
    Bottleneck,
    LowRank,
    Method,
    method_value,
    methods_node,
    refuse_unsupported,
)
from adpm.formats.json import open_json, pretty
from adpm.formats.reader import Decoder, Document, Fields, Node, flag, integer, one_of, text

__all__ = [
    "AdapterHubConfig",
    "HeadConfig",
    "head_of",
    "read_adapter_config",
    "read_head_config",
    "write_adapter_config",
    "write_head_config",
]

_CODE: Final = "adapter-config-invalid"
_VERSION: Final = "adapters.1.3.0"  # what files that adpm writes say; it decides how a reader treats LoRA's alpha

# Files from before `version` was written name two activations otherwise.
_OLD_ACTIVATIONS: Final = {"gelu": "gelu_new", "gelu_orig": "gelu"}


@dataclass(frozen=True, slots=True)
class AdapterHubConfig:
    """One ``adapter_config.json``: ``name`` is part of the weights' names; several methods are a config union."""

    name: str
    methods: tuple[Method, ...]
    model_type: str | None = None
    model_name: str | None = None
    hidden_size: int | None = None
    old_task: bool = False  # a task adapter from before v2: its config names inverse blocks that its file lacks


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """One ``head_config.json`` of a classification head."""

    name: str
    num_labels: int = 2
    layers: int = 2
    activation_function: str | None = "tanh"
    label2id: tuple[tuple[str, int], ...] | None = None
    use_pooler: bool = False
    bias: bool = True
    dropout_prob: float | None = None
    hidden_size: int | None = None


_HEAD: Final[dict[str, Decoder[Any]]] = {
    "num_labels": WIDTH,
    "layers": integer(1, 100),
    "activation_function": activation,
    "use_pooler": flag,
    "bias": flag,
    "dropout_prob": probability,
}


def _open(data: bytes, source: str) -> tuple[Document, Fields]:
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    found = document.root.decode(Node.fields)
    document.finish()
    return document, cast("Fields", found)


def read_adapter_config(data: bytes, *, source: str) -> AdapterHubConfig:
    """Read ``adapter_config.json``; faults as in :func:`method_of`.

    Old files are read as they were meant: nested invertible blocks, renamed activations, and LoRA from before 1.1.0,
    which was trained with alpha = r whatever it says.
    """
    document, found = _open(data, source)
    refuse_unsupported(cast("dict[str, object]", document.root.value).get("config"), source)
    methods = found.need("config", methods_node)
    version = found.get("version", text)
    config = AdapterHubConfig(
        name=found.need("name", text),
        methods=methods,
        model_type=found.get("model_type", text),
        model_name=found.get("model_name", text),
        hidden_size=found.get("hidden_size", WIDTH),
        old_task=found.get("type", text) == "text_task",
    )
    document.finish()
    return replace(config, methods=tuple(_as_meant(method, version) for method in methods))


def _as_meant(method: Method, version: str | None) -> Method:
    if isinstance(method, Bottleneck) and version is None:
        return replace(method, non_linearity=_OLD_ACTIVATIONS.get(method.non_linearity, method.non_linearity))
    if isinstance(method, LowRank) and version is not None and version.startswith("adapters."):
        try:
            old = Version(version.removeprefix("adapters.")) < Version("1.1.0")
        except InvalidVersion:
            old = False
        return replace(method, alpha=method.r) if old else method
    return method


def read_head_config(data: bytes, *, source: str) -> HeadConfig:
    """Read ``head_config.json``. Heads of other kinds raise ``AdapterError`` (``method-unsupported``)."""
    document, found = _open(data, source)
    values = cast("dict[str, object]", document.root.value)
    config = values.get("config")
    kind = config.get("head_type") if isinstance(config, dict) else values.get("model_class")
    if isinstance(kind, str) and kind != "classification":
        raise AdapterError(
            "method-unsupported",
            f"{source} is a head of the type {kind!r}, which adpm does not run yet",
            hint="classification heads are what it runs; with_head=False reads the adapter without its head",
        )
    head = found.need("config", _head)
    name = found.get("name", text, default="default")
    hidden_size = found.get("hidden_size", WIDTH)
    document.finish()
    return replace(head, name=name, hidden_size=hidden_size)


def head_of(value: Mapping[str, Any], *, source: str) -> HeadConfig:
    """A classification head's settings as a value; ``value`` is what stands under ``config`` in a file."""
    document = Document({"head_type": "classification", **value}, source=source, code=_CODE)
    head = document.root.decode(_head)
    document.finish()
    return cast("HeadConfig", head)


def _head(node: Node) -> HeadConfig:
    found = node.fields()
    found.need("head_type", one_of("classification"))
    values = stated(_HEAD, found)
    if "activation_function" in found and "activation_function" not in values:
        values["activation_function"] = None
    labels = found.get("label2id", _labels)
    close_unless_off(node, (*_HEAD, "head_type", "label2id"))
    return HeadConfig(name="default", label2id=labels, **values)


def _labels(node: Node) -> tuple[tuple[str, int], ...]:
    out = [(str(child.path[-1]), child.decode(integer(0))) for child in node.children()]
    return tuple(sorted((label, number) for label, number in out if number is not None))


def write_adapter_config(config: AdapterHubConfig, *, model_class: str) -> bytes:
    """The bytes of an ``adapter_config.json`` that AdapterHub and adpm read as ``config``."""
    values = [method_value(method) for method in config.methods]
    return pretty(
        {
            "config": values[0] if len(values) == 1 else {"architecture": "union", "configs": values},
            "hidden_size": config.hidden_size,
            "model_class": model_class,
            "model_name": config.model_name,
            "model_type": config.model_type,
            "name": config.name,
            "version": _VERSION,
        }
    )


def write_head_config(head: HeadConfig, *, model_class: str, model_type: str | None, model_name: str | None) -> bytes:
    """The bytes of a ``head_config.json`` that AdapterHub and adpm read as ``head``."""
    values: dict[str, Any] = {key: getattr(head, key) for key in _HEAD}
    values["head_type"] = "classification"
    values["label2id"] = None if head.label2id is None else dict(head.label2id)
    return pretty(
        {
            "config": values,
            "hidden_size": head.hidden_size,
            "model_class": model_class,
            "model_name": model_name,
            "model_type": model_type,
            "name": head.name,
            "version": _VERSION,
        }
    )
