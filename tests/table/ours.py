"""adpm as a contender: AdapterHub's methods by their names, PEFT's as ``peft_NAME``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

import adpm
from adpm.errors import AdpmError
from adpm.formats.adapterhub_methods import NAMED
from adpm.formats.peft import PEFT_METHODS
from tests.table.trial import HUB, PEFT, base, method_settings, shake

__all__ = ["NAMES", "Ours", "formats"]

NAMES = (*NAMED, *(f"peft_{kind.lower()}" for kind in sorted(PEFT_METHODS)))
_BOTH = ("peft_lora", "peft_ia3")  # which AdapterHub has on fewer layers
_FORMATS: tuple[Literal["adapterhub", "peft"], ...] = ("adapterhub", "peft")


class _Attached:
    def __init__(self, method: str, model: Any, run: Callable[[Any], dict[str, Tensor]]) -> None:
        self.handle: Any = adpm.attach(model)
        self.method = method
        self.run = run
        self.add("x")

    def add(self, name: str) -> None:
        _add(self.handle, name, self.method)
        shake(_trained(self.handle.adapters[name]), len(self.handle.names))

    def alone(self, name: str) -> dict[str, Tensor]:
        with self.handle.using(name):
            return self.run(self.handle.model)

    def mixed(self) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        rows = ("x", "y", "x")
        self.handle.activate(rows=list(rows))
        try:
            return self.run(self.handle.model), rows
        finally:
            self.handle.activate(None)

    def merged(self) -> dict[str, Tensor]:
        self.handle.merge("x")
        try:
            return self.run(self.handle.model)
        finally:
            self.handle.unmerge()


class Ours:
    methods = NAMES

    def attach(self, method: str, model: Any, run: Callable[[Any], dict[str, Tensor]]) -> _Attached:
        return _Attached(method, model, run)


def formats(family_of: dict[str, str]) -> dict[str, list[str]]:
    """For each method, tried on the family given: the formats in which it can be saved."""
    out: dict[str, list[str]] = {}
    for method, family in family_of.items():
        handle: Any = adpm.attach(base(family))
        _add(handle, "x", method, **({"target_modules": ["query", "value"]} if method in _BOTH else {}))
        out[method] = [word for word in _FORMATS if _saves(handle, word)]
    return out


def _add(handle: Any, name: str, method: str, **more: Any) -> None:
    plain = method.removeprefix("peft_")
    if method == "peft_p_tuning":
        _read_p_tuning(handle, name)
    else:
        settings = HUB.get(method, {}) if plain == method else method_settings(plain, handle.model)
        handle.add(name, method, **{**settings, **more})


def _read_p_tuning(handle: Any, name: str) -> None:
    """Its encoder is not saved, so adpm reads what was trained and starts none: its files are prompt tuning's."""
    handle.add(name, "peft_prompt_tuning", **PEFT["prompt_tuning"])
    with tempfile.TemporaryDirectory() as directory:
        handle.save(name, directory)
        config = Path(directory) / "adapter_config.json"
        value = {**json.loads(config.read_bytes()), "peft_type": "P_TUNING", "encoder_hidden_size": 16}
        value = {key: found for key, found in value.items() if not key.startswith("prompt_tuning_init")}
        config.write_text(json.dumps(value), encoding="utf-8")
        handle.remove(name)
        handle.read(directory, name)


def _trained(adapter: Any) -> Iterator[nn.Parameter]:
    for part in adapter.parts.values():
        part.make_trainable()
    for parameter in adapter.parameters():
        if parameter.requires_grad:
            yield parameter
            parameter.requires_grad_(False)


def _saves(handle: Any, word: Literal["adapterhub", "peft"]) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        try:
            handle.save("x", directory, format=word)
        except AdpmError:
            return False
    return True
