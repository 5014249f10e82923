"""Ask ``adapters`` which of its methods it runs on which of the tests' small models, merges, and mixes in a batch.

    ADPM_ADAPTERHUB_PYTHON tests/runtime/every/ask_adapterhub.py

Reads from stdin, as JSON, the settings of each method; prints JSON: of each method, what can be done, in words, and the
families. Runs without adpm, in an environment with the peer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters.composition import BatchSplit

sys.path.insert(0, str(Path(__file__).parents[2] / "parity" / "peers"))
from small import SMALL, model_inputs, randomise, tensors_of  # type: ignore[import-not-found]  # no package's


def run(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found = tensors_of(model(**inputs, output_hidden_states=True))
    return {key: value for key, value in found.items() if "logits_per" not in key}


def far(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(
        float((first[key] - value).abs().max()) if first[key].shape == value.shape else 1.0
        for key, value in second.items()
    )


def add(model: Any, name: str, method: str, settings: dict[str, Any]) -> None:
    plus = method == "adapter_plus"  # which the peer has no short name for
    config = adapters.AdapterPlusConfig(**settings) if plus else adapters.AdapterConfig.load(method, **settings)
    model.add_adapter(name, config=config)
    model.train_adapter(name)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
    model.eval()


def trial(method: str, family: str, settings: dict[str, Any]) -> str:
    """What can be done, in words; raises whatever the peer does where the method does not run."""
    torch.manual_seed(0)
    model = SMALL[family].model()
    randomise(model, 0.15)
    inputs = model_inputs(SMALL[family].kind)
    adapters.init(model)
    bare = run(model, inputs)
    add(model, "x", method, settings)
    add(model, "y", method, settings)
    model.set_active_adapters("y")
    other = run(model, inputs)
    model.set_active_adapters("x")
    expected = run(model, inputs)
    if far(expected, bare) <= 1e-4:
        raise ValueError("it does nothing")
    can = []
    try:
        model.set_active_adapters(BatchSplit("x", "y", batch_sizes=[1, 2]))
        found = run(model, inputs)
        rows = [(expected if row == 0 else other) for row in range(3)]
        same = [far({k: v[i] for k, v in found.items()}, {k: rows[i][k][i] for k in found}) < 1e-4 for i in range(3)]
        can += ["rows"] * all(same)
    except Exception:  # noqa: BLE001, S110 - whatever the peer raises, it can't
        pass
    try:
        model.set_active_adapters("x")
        model.merge_adapter("x")
        model.set_active_adapters(None)
        can = ["merge"] * (far(run(model, inputs), expected) < 1e-3) + can
    except Exception:  # noqa: BLE001, S110 - as above
        pass
    return " ".join(can)


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[str]]] = {}
    for method, settings in json.load(sys.stdin).items():
        for family in sorted(SMALL):
            try:
                can = trial(method, family, settings)
            except Exception as error:  # noqa: BLE001 - whatever the peer raises, it does not run
                print(f"{method} {family} {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                continue
            found.setdefault(method, {}).setdefault(can, []).append(family)
    from adapters import ADAPTER_CONFIG_MAP  # noqa: PLC0415 - beside what it is for

    json.dump({"version": adapters.__version__, "known": sorted(ADAPTER_CONFIG_MAP), "methods": found}, sys.stdout)


if __name__ == "__main__":
    main()
