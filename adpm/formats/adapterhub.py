"""AdapterHub's ``adapter_config.json`` and ``head_config.json`` as frozen values, read strictly and written back.

Source: ``adapters`` 1.3.0, ``loading.py``, ``heads/base.py``. ``specs/adapterhub.md`` is normative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, cast

from packaging.version import InvalidVersion, Version

from adpm import limits
from adpm.formats.adapterhub_keys import WIDTH
from adpm.formats.adapterhub_methods import (
    Bottleneck,
    LowRank,
    Method,
    methods_node,
    methods_value,
    refuse_unsupported,
)
from adpm.formats.json import open_json, pretty
from adpm.formats.reader import Document, Fields, Node, text

__all__ = [
    "VERSION",
    "AdapterHubConfig",
    "open_config",
    "read_adapter_config",
    "write_adapter_config",
]

_CODE: Final = "adapter-config-invalid"
VERSION: Final = "adapters.1.3.0"  # what files that adpm writes say; it decides how a reader treats LoRA's alpha

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


def open_config(data: bytes, source: str) -> tuple[Document, Fields]:
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    found = document.root.decode(Node.fields)
    document.finish()
    return document, cast("Fields", found)


def read_adapter_config(data: bytes, *, source: str) -> AdapterHubConfig:
    """Read ``adapter_config.json``; faults as in :func:`method_of`.

    Old files are read as they were meant: nested invertible blocks, renamed activations, and LoRA from before 1.1.0,
    which was trained with alpha = r whatever it says.
    """
    document, found = open_config(data, source)
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


def write_adapter_config(config: AdapterHubConfig, *, model_class: str) -> bytes:
    """The bytes of an ``adapter_config.json`` that AdapterHub and adpm read as ``config``."""
    return pretty(
        {
            "config": methods_value(config.methods),
            "hidden_size": config.hidden_size,
            "model_class": model_class,
            "model_name": config.model_name,
            "model_type": config.model_type,
            "name": config.name,
            "version": VERSION,
        }
    )
