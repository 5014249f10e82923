"""PEFT as a contender; runs in an environment of its own, and prints what it found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import peft
import transformers
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor

from tests.table.trial import method_settings, shake, tried

_KINDS = {kind.value.lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
_VIRTUAL = ("cpt", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "prompt_tuning")


class _Attached:
    def __init__(self, method: str, model: Any, run: Callable[..., dict[str, Tensor]]) -> None:
        self.run = run
        self.known = {id(parameter) for parameter in model.parameters()}
        task = {"task_type": "FEATURE_EXTRACTION"} if method in _VIRTUAL else {}
        self.config = _KINDS[method](**method_settings(method, model), **task)
        self.model = peft.get_peft_model(model, self.config, adapter_name="x")
        self.shake()

    def add(self, name: str) -> None:
        self.model.add_adapter(name, self.config)
        self.shake()

    def shake(self) -> None:
        new = [parameter for parameter in self.model.parameters() if id(parameter) not in self.known]
        self.known.update(map(id, new))
        shake(iter(new), len(self.known))
        self.model.eval()

    def alone(self, name: str) -> dict[str, Tensor]:
        self.model.set_adapter(name)
        return self.run(self.model)

    def mixed(self) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        rows = ("x", "y", "x")
        return self.run(self.model, adapter_names=list(rows)), rows

    def merged(self) -> dict[str, Tensor]:
        self.model.merge_adapter(["x"])
        try:
            return self.run(self.model)
        finally:
            self.model.unmerge_adapter()


class _Peer:
    methods = tuple(sorted(_KINDS))

    def attach(self, method: str, model: Any, run: Callable[..., dict[str, Tensor]]) -> _Attached:
        return _Attached(method, model, run)


if __name__ == "__main__":
    getattr(transformers.logging, "set_verbosity_error")()  # noqa: B009 - untyped
    versions = {"peft": peft.__version__, "transformers": transformers.__version__}
    json.dump({"versions": versions, "methods": tried(_Peer())}, sys.stdout)
