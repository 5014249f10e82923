"""Write a fixture of every type of head on every family in the corpus's layout with AdapterHub itself.

    ADAPTERHUB_PYTHON tests/parity/peers/make_heads.py OUT [--seed 1]
    ADAPTERHUB_PYTHON tests/parity/peers/make_heads.py --list
    ADPM_PARITY_DIR=OUT pytest tests/parity

As ``make_adapterhub.py``: which types a family has says the peer; settings and weights are random, those that a head
shares with the base's embedding aside, and every second head has names for its labels.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from make_adapterhub import write  # type: ignore[import-not-found]  # beside this file, which runs as a script
from make_compositions import head_settings, outputs, outputs_of_base  # type: ignore[import-not-found]  # as above
from small import SMALL, head_inputs, randomise  # type: ignore[import-not-found]  # as above

FAMILIES = [family for family, small in SMALL.items() if hasattr(adapters, f"{small.word}AdapterModel")]


def fixture(out: Path, number: int, rng: random.Random, family: str, kind: str) -> None:
    small = SMALL[family]
    base_dir = out / "bases" / f"adapters-{number}"
    untied = rng.random() < 0.3 and (
        small.kind == "text" or family == "t5"
    )  # of others releases of transformers differ
    base = small.model(**({"tie_word_embeddings": False} if kind.endswith("_lm") and untied else {}))
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    model = getattr(adapters, f"{small.word}AdapterModel").from_pretrained(base_dir)
    shared = {id(parameter) for parameter in model.parameters()}
    model.add_adapter("a", config="seq_bn")
    model.add_prediction_head_from_config("a", {"head_type": kind, **settings(rng, model, family, kind)})
    for parameter in model.parameters():
        if id(parameter) not in shared:
            parameter.data = torch.randn_like(parameter) * 0.3
    model.eval()
    model.set_active_adapters("a")
    model.active_head = "a"
    inputs = head_inputs(small.kind, kind, end=getattr(model.config, "eos_token_id", None), seed=number)
    expected = outputs(model, inputs)
    directory = out / "adapters-1.3.0" / f"{number:03}-{family}:{kind}"
    write(model, directory, ["a"], ["a"])
    bare = getattr(transformers, f"{small.word}Model").from_pretrained(base_dir).eval()
    expected |= outputs_of_base(bare, inputs)
    save_file(expected, directory / "expected.safetensors")
    save_file(inputs, directory / "inputs.safetensors")
    single = {"type": "single", "children": ["a"]}
    composition = {"adapters": ["a"], "active": single, "heads": ["a"], "active_head": "a"}
    meta = {
        "base": f"bases/{base_dir.name}",
        "base_class": f"{small.word}Model",
        "attn_implementation": bare.config._attn_implementation,
        "bases_may_differ": True,
        "labels": model.heads["a"].config.get("label2id"),
        "model_type": family,
        "peer": "adapters",
        "tolerance_abs": 2e-5 * max(1.0, *(float(value.abs().max()) for value in expected.values())),
    }
    (directory / "composition.json").write_text(json.dumps(composition), "utf-8")
    (directory / "meta.json").write_text(json.dumps(meta), "utf-8")


def settings(rng: random.Random, model: Any, family: str, kind: str) -> dict[str, Any]:
    pooled = getattr(model.base_model, "pooler", None) is not None
    found: dict[str, Any] = head_settings(rng, kind, pooled)
    if "num_choices" in found:
        found["num_choices"] = 3
    if family in ("electra", "albert") and kind.endswith("_lm"):  # whose states are wider than their embeddings
        found["layers"] = max(found["layers"], 2)
    labels = found.get("num_labels") or found.get("num_choices")
    if labels and rng.random() < 0.5:
        found["id2label"] = {number: f"is {number}" for number in range(labels)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the families and their types of heads alone")
    arguments = parser.parse_args()
    kinds = [(f, kind) for f in FAMILIES for kind in getattr(adapters, f"{SMALL[f].word}AdapterModel").head_types]
    if arguments.list:
        print("\n".join(f"{family}:{kind}" for family, kind in kinds))
        return
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    for number, (family, kind) in enumerate(kinds):
        try:
            fixture(arguments.out, number, rng, family, kind)
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer can't run the case
            sys.stderr.write(f"{family}:{kind}: the peer fails: {type(error).__name__} {str(error)[:100]}\n")


if __name__ == "__main__":
    main()
