"""PEFT's ``adapter_config.json`` for LoRA as a frozen value, read strictly and written back.

Source: ``peft`` 0.21.2, ``tuners/lora/config.py``. A key that adpm does not know, or a feature it does not run, is
refused by name unless its value is off (null, false, 0, an empty text, list or mapping): ``specs/peft.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from adpm import limits
from adpm.errors import AdapterError
from adpm.formats.adapterhub import close_unless_off, probability
from adpm.formats.json import open_json, pretty
from adpm.formats.reader import Decoder, Document, Fields, Node, flag, integer, list_of, number, one_of, text

__all__ = ["PeftLora", "lora_of", "lora_value", "read_peft_config", "write_peft_config"]

_CODE: Final = "adapter-config-invalid"
_REPETITIONS: Final = 4  # of unbounded repetitions in one pattern; more could take for ever to fail
_RISKY: Final = re.compile(r"\)[*+{]|\\[1-9]")


@dataclass(frozen=True, slots=True)
class PeftLora:
    """``LoraConfig``, as far as it decides an output. Patterns are regular expressions over module names."""

    target_modules: str | tuple[str, ...]
    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    exclude_modules: str | tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    modules_to_save: tuple[str, ...] = ()
    task_type: str | None = None
    init_lora_weights: bool | str = True
    base_model_name_or_path: str | None = None

    def scale(self, rank: int, alpha: float) -> float:
        return alpha / (rank**0.5 if self.use_rslora else rank)


# Features that change outputs and that adpm does not run, and ways to start that change the base's own weights.
_FEATURES: Final = (
    "alora_invocation_tokens",
    "arrow_config",
    "ensure_weight_tying",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
_CHANGES_BASE: Final = ("pissa", "olora", "corda", "loftq")
# Keys that decide how training starts, where files are, or what PEFT wraps: never an output.
_HARMLESS: Final = (
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
)


def _pattern(node: Node) -> str:
    """A regular expression that can't take for ever: files are not trusted."""
    value = text(node)
    if len(value) > limits.PATTERN_CHARACTERS:
        node.fail(f"has {len(value)} characters, at most {limits.PATTERN_CHARACTERS} are allowed")
    try:
        re.compile(value)
    except re.error as error:
        node.fail(f"is not a regular expression: {error}")
    if _RISKY.search(value) or len(re.findall(r"[*+]|\{\d*,", value)) > _REPETITIONS:
        node.fail("repeats groups or too much: to match it could take for ever")
    return value


def _pattern_or_names(node: Node) -> str | tuple[str, ...]:
    return _pattern(node) if isinstance(node.value, str) else _names(node)


def _one_or_more(decoder: Decoder[Any]) -> Decoder[Any]:
    return lambda node: list_of(decoder)(node) if isinstance(node.value, list) else (decoder(node),)


def _by_pattern(decoder: Decoder[Any]) -> Decoder[tuple[tuple[str, Any], ...]]:
    def decode(node: Node) -> tuple[tuple[str, Any], ...]:
        out = []
        for child in node.children():
            key = Node(child.document, child.path, str(child.path[-1])).decode(_pattern)
            value = child.decode(decoder)
            if key is not None and value is not None:
                out.append((key, value))
        return tuple(out)

    return decode


def _start(node: Node) -> bool | str:
    return text(node) if isinstance(node.value, str) else flag(node)


_names: Final = list_of(text)
_RANK: Final = integer(1, limits.TENSOR_WIDTH)
_TABLE: Final[dict[str, Decoder[Any]]] = {
    "target_modules": _pattern_or_names,
    "r": _RANK,
    "lora_alpha": number,
    "lora_dropout": probability,
    "use_rslora": flag,
    "use_dora": flag,
    "lora_bias": flag,
    "bias": one_of("none", "all", "lora_only"),
    "fan_in_fan_out": flag,
    "exclude_modules": _pattern_or_names,
    "layers_to_transform": _one_or_more(integer(0)),
    "layers_pattern": _one_or_more(_pattern),
    "rank_pattern": _by_pattern(_RANK),
    "alpha_pattern": _by_pattern(number),
    "modules_to_save": list_of(_pattern),
    "task_type": text,
    "init_lora_weights": _start,
    "base_model_name_or_path": text,
}


def _refuse_unsupported(value: Mapping[str, object], source: str) -> None:
    kind = value.get("peft_type")
    if isinstance(kind, str) and kind != "LORA":
        raise _unsupported(source, f"the method {kind}")
    for key in _FEATURES:
        if value.get(key):
            raise _unsupported(source, f"LoRA with {key}")
    start = value.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise _unsupported(source, f"LoRA that started as {start} and changed the base's weights")


def _unsupported(source: str, what: str) -> AdapterError:
    return AdapterError(
        "method-unsupported",
        f"{source} is an adapter of {what}, which adpm does not run yet",
        hint="bottleneck adapters and LoRA are what it runs",
    )


def lora_of(value: Mapping[str, Any], *, source: str) -> PeftLora:
    """LoRA's settings as a value; ``value`` is the content of an ``adapter_config.json``.

    Raises ``DocumentError`` (``adapter-config-invalid``) and ``AdapterError`` (``method-unsupported``).
    """
    _refuse_unsupported(value, source)
    return _decode(Document({"peft_type": "LORA", **value}, source=source, code=_CODE))


def read_peft_config(data: bytes, *, source: str) -> PeftLora:
    """Read ``adapter_config.json``; faults as in :func:`lora_of`."""
    document = open_json(data, source=source, code=_CODE, limit=limits.CONFIG_BYTES)
    if isinstance(document.root.value, dict):
        _refuse_unsupported(document.root.value, source)
    return _decode(document)


def _decode(document: Document) -> PeftLora:
    config = document.root.decode(_lora)
    document.finish()
    return cast("PeftLora", config)


def _lora(node: Node) -> PeftLora:
    found: Fields = node.fields()
    found.need("peft_type", one_of("LORA"))
    values = {key: value for key, decoder in _TABLE.items() if (value := found.get(key, decoder)) is not None}
    if "target_modules" not in values:
        found.need("target_modules", _pattern_or_names)
    close_unless_off(node, (*_TABLE, *_FEATURES, *_HARMLESS, "peft_type"))
    return PeftLora(**{"target_modules": (), **values})


def lora_value(config: PeftLora) -> dict[str, Any]:
    """``config`` as the mapping that :func:`lora_of` reads."""
    out: dict[str, Any] = {"peft_type": "LORA", "inference_mode": True}
    for key in _TABLE:
        value = getattr(config, key)
        if key.endswith("_pattern") and key != "layers_pattern":
            value = dict(value)
        elif isinstance(value, tuple):
            value = list(value) or None
        out[key] = value
    return out


def write_peft_config(config: PeftLora) -> bytes:
    """The bytes of an ``adapter_config.json`` that PEFT and adpm read as ``config``."""
    return pretty(lora_value(config))
