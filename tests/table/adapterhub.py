"""AdapterHub's ``adapters`` as a contender; runs in an environment of its own, and prints what it found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import adapters
import torch
import transformers
from adapters.composition import BatchSplit
from torch import Tensor

from tests.table.trial import HUB, shake, tried


class _Attached:
    def __init__(self, method: str, model: Any, run: Callable[[Any], dict[str, Tensor]]) -> None:
        self.model = model
        self.run = run
        self.known = {id(parameter) for parameter in model.parameters()}
        adapters.init(model)
        self.method = method
        self.add("x")

    def add(self, name: str) -> None:
        self.model.add_adapter(name, config=adapters.AdapterConfig.load(self.method, **HUB.get(self.method, {})))
        new = [parameter for parameter in self.model.parameters() if id(parameter) not in self.known]
        self.known.update(map(id, new))
        shake(iter(new), len(self.known))
        self.model.eval()

    def alone(self, name: str) -> dict[str, Tensor]:
        self.model.set_active_adapters(name)
        return self.run(self.model)

    def mixed(self) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        self.model.set_active_adapters(BatchSplit("x", "y", batch_sizes=[2, 1]))
        return self.run(self.model), ("x", "x", "y")

    def merged(self) -> dict[str, Tensor]:
        """It must stay active, and merging nothing is no error there: so the weights are looked at, too."""
        self.model.set_active_adapters("x")
        before = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.model.merge_adapter("x")
        try:
            if all(torch.equal(old, new) for old, new in zip(before, self.model.parameters(), strict=True)):
                raise RuntimeError("nothing was merged")
            return self.run(self.model)
        finally:
            self.model.reset_adapter()


class _Peer:
    methods = tuple(adapters.ADAPTER_CONFIG_MAP)

    def attach(self, method: str, model: Any, run: Callable[[Any], dict[str, Tensor]]) -> _Attached:
        return _Attached(method, model, run)


if __name__ == "__main__":
    getattr(transformers.logging, "set_verbosity_error")()  # noqa: B009 - untyped
    versions = {"adapters": adapters.__version__, "transformers": transformers.__version__}
    json.dump({"versions": versions, "methods": tried(_Peer())}, sys.stdout)
