"""Ask ``peft`` which of its methods it runs on which of the tests' small models, merges, and mixes in a batch.

    ADPM_PEFT_PYTHON tests/runtime/every/ask_peft.py

Reads from stdin, as JSON, the settings of each method for each family; prints JSON: of each method, what can be done,
in words, and the families. Runs without adpm, in an environment with the peer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

sys.path.insert(0, str(Path(__file__).parents[2] / "parity" / "peers"))
from small import SMALL, model_inputs, randomise, tensors_of  # type: ignore[import-not-found]  # no package's


def run(model: Any, inputs: dict[str, torch.Tensor], **more: Any) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found = tensors_of(model(**inputs, output_hidden_states=True, **more))
    return {key: value for key, value in found.items() if "logits_per" not in key}


def far(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(
        float((first[key] - value).abs().max()) if first[key].shape == value.shape else 1.0
        for key, value in second.items()
    )


def trial(kind: Any, family: str, settings: dict[str, Any]) -> str:
    """What can be done, in words; raises whatever the peer does where the method does not run."""
    torch.manual_seed(0)
    model = SMALL[family].model()
    randomise(model, 0.15)
    inputs = model_inputs(SMALL[family].kind)
    bare = run(model, inputs)
    make = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    adapted = peft.get_peft_model(model, make(**settings))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
    adapted.eval()
    expected = run(adapted, inputs)
    if far(expected, bare) <= 1e-4:
        raise ValueError("it does nothing")
    can = []
    try:
        found = run(adapted, inputs, adapter_names=["default", "__base__", "default"])
        rows = [expected, bare, expected]
        same = [far({k: v[i] for k, v in found.items()}, {k: rows[i][k][i] for k in found}) < 1e-4 for i in range(3)]
        can += ["rows"] * all(same)
    except Exception:  # noqa: BLE001, S110 - whatever the peer raises, it can't
        pass
    try:
        merged = adapted.merge_and_unload()
        can = ["merge"] * (far(run(merged, inputs), expected) < 1e-3) + can
    except Exception:  # noqa: BLE001, S110 - as above
        pass
    return " ".join(can)


def main() -> None:
    torch.set_num_threads(1)
    kinds = {str(getattr(kind, "value", kind)): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    found: dict[str, dict[str, list[str]]] = {}
    for method, families in json.load(sys.stdin).items():
        for family, settings in families.items():
            try:
                can = trial(kinds[method], family, settings)
            except Exception as error:  # noqa: BLE001 - whatever the peer raises, it does not run
                print(f"{method} {family} {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                continue
            found.setdefault(method, {}).setdefault(can, []).append(family)
    json.dump({"version": peft.__version__, "known": sorted(kinds), "methods": found}, sys.stdout)


if __name__ == "__main__":
    main()
