"""Write random LoRA fixtures in the corpus's layout with PEFT itself.

    PEFT_PYTHON tests/parity/peers/make_peft.py OUT [--seed 1] [--count 40]
    ADPM_PARITY_DIR=OUT pytest tests/parity

Runs in an environment with ``peft`` 0.21.2 and without adpm. Every option of ``LoraConfig`` that adpm runs is drawn at
random, on all four model families, with and without the model's own head; all weights are random.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import save_file

SIZES = {"num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64, "hidden_size": 32}
FAMILIES = {
    "bert": ("Bert", SIZES, ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")),
    "roberta": ("Roberta", {**SIZES, "pad_token_id": 1}, ("query", "key", "value", "output.dense")),
    "xlm-roberta": ("XLMRoberta", SIZES, ("query", "key", "value", "intermediate.dense")),
    "distilbert": (
        "DistilBert",
        {"n_heads": 4, "n_layers": 3, "hidden_dim": 64, "dim": 32},
        ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    ),
}


def randomise(module: torch.nn.Module, scale: float) -> None:
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter) * scale
        parameter.data = 1.0 + noise if "norm" in name.lower() and name.endswith("weight") else noise


def lora(rng: random.Random, names: tuple[str, ...], task: str | None) -> peft.LoraConfig:
    some = rng.sample(names, rng.randint(1, len(names)))
    targets: Any = some
    kind = rng.random()
    if kind < 0.2:
        targets = "all-linear"
    elif kind < 0.4:
        targets = rf".*\.layer\.[01]\..*({'|'.join(some)})".replace("output.dense", r"output\.dense")
    values: dict[str, Any] = {
        "target_modules": targets,
        "task_type": task,
        "r": rng.choice([1, 2, 4, 8]),
        "lora_alpha": rng.choice([1, 4, 16]),
        "lora_dropout": rng.choice([0.0, 0.1]),
        "use_rslora": rng.random() < 0.3,
        "use_dora": rng.random() < 0.25,
        "bias": rng.choice(["none", "none", "all", "lora_only"]),
        "rank_pattern": rng.choice([{}, {some[0]: 3}, {rf"layer\.1\..*\.?{some[0]}": 5}]),
        "alpha_pattern": rng.choice([{}, {some[-1]: 7}]),
    }
    if not values["use_dora"]:
        values["lora_bias"] = rng.random() < 0.25
    if kind >= 0.4:
        values["layers_to_transform"] = rng.choice([None, 1, [0, 2]])
        values["exclude_modules"] = rng.choice(
            [None, ["layer.0." + some[0]], [some[0]] if len(some) > 1 else None, r".*\.layer\.2\..*"]
        )
    return peft.LoraConfig(**values)


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
    found = {key: value.clone() for key, value in out.items() if isinstance(value, torch.Tensor)}
    return found | {f"hidden_states.{i}": state.clone() for i, state in enumerate(out.hidden_states)}


def fixture(out: Path, number: int, rng: random.Random) -> None:
    family = rng.choice(list(FAMILIES))
    word, sizes, names = FAMILIES[family]
    kind, task = rng.choice(
        [("Model", None), ("Model", "FEATURE_EXTRACTION"), *[("ForSequenceClassification", "SEQ_CLS")] * 3]
    )
    config = getattr(transformers, f"{word}Config")(vocab_size=50, max_position_embeddings=40, num_labels=3, **sizes)
    base_class = getattr(transformers, f"{word}{kind}")
    base_dir = out / "bases" / f"peft-{family}-{number}"
    base = base_class(config)
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    inputs = {"input_ids": torch.randint(3, 50, (3, 11)), "attention_mask": torch.ones(3, 11, dtype=torch.long)}
    inputs["attention_mask"][1, 8:] = 0
    bare = {f"base.{key}": value for key, value in outputs(base.eval(), inputs).items()}
    several = task is None and rng.random() < 0.5
    configs = [lora(rng, names, task), lora(rng, names, task)]
    if several:
        configs[0].bias = configs[1].bias = "none"  # the peer does not allow several adapters with biases
    model = peft.get_peft_model(base_class.from_pretrained(base_dir), configs[0], "a")
    if several:
        model.add_adapter("b", configs[1])
        model.base_model.set_adapter(["a", "b"])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn_like(parameter) * 0.2
            parameter.data = 1.0 + noise if "magnitude" in name else noise
    expected = outputs(model.eval(), inputs) | bare
    directory = out / "peft-0.21.2" / f"{number:03}-{family}-{kind.lower()}"
    model.save_pretrained(directory / "adapters")
    save_file(expected, directory / "expected.safetensors")
    save_file(inputs, directory / "inputs.safetensors")
    adapters = ["a", "b"] if several else ["a"]
    composition = {
        "adapters": adapters,
        "active": adapters if several else "a",
        "paths": {name: f"adapters/{name}" for name in adapters},
        "forward_kwargs": {},
    }
    meta = {
        "base": f"bases/{base_dir.name}",
        "base_class": f"{word}{kind}",
        "attn_implementation": "sdpa",
        "model_type": family,
        "peer": "peft",
        "bases_may_differ": True,  # between releases of transformers
        "tolerance_abs": 2e-5 * max(1.0, *(float(value.abs().max()) for value in expected.values())),
    }
    (directory / "composition.json").write_text(json.dumps(composition), "utf-8")
    (directory / "meta.json").write_text(json.dumps(meta), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    for number in range(arguments.count):
        seed = arguments.seed * 1000 + number
        torch.manual_seed(seed)
        try:
            fixture(arguments.out, number, random.Random(seed))
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            sys.stderr.write(f"{number}: the peer fails: {type(error).__name__} {str(error)[:100]}\n")


if __name__ == "__main__":
    main()
