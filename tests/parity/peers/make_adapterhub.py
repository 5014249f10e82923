"""Write random fixtures in the corpus's layout with AdapterHub itself.

    ADAPTERHUB_PYTHON tests/parity/peers/make_adapterhub.py OUT [--seed 1] [--count 40]
    ADPM_PARITY_DIR=OUT pytest tests/parity

Runs in an environment with ``adapters`` 1.3.0 and without adpm. Every option of the bottleneck and LoRA configs is
drawn at random, on all four model families, alone and stacked, with and without a head; all weights are random.
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
from adapters import composition as ac
from safetensors.torch import save_file

FAMILIES = {
    "bert": ("Bert", {"num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}),
    "roberta": (
        "Roberta",
        {"num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64, "pad_token_id": 1},
    ),
    "xlm-roberta": ("XLMRoberta", {"num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}),
    "distilbert": ("DistilBert", {"n_heads": 4, "n_layers": 3, "hidden_dim": 64, "dim": 32}),
}
ACTIVATIONS = [
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_accurate",
    "laplace",
    "leaky_relu",
    "leakyrelu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
    "prelu",
]


def randomise(module: torch.nn.Module, scale: float) -> None:
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter) * scale
        parameter.data = 1.0 + noise if "norm" in name.lower() and name.endswith("weight") else noise


def bottleneck(rng: random.Random) -> Any:
    before = rng.random() < 0.5
    phm = rng.random() < 0.25
    values: dict[str, Any] = {
        "mh_adapter": rng.random() < 0.5,
        "output_adapter": True,
        "reduction_factor": rng.choice([2, 4, 8, 0.5, {"0": 4, "default": 8}]) if not phm else rng.choice([2, 4]),
        "non_linearity": rng.choice(ACTIVATIONS),
        "original_ln_before": before,
        "original_ln_after": rng.random() < 0.8,
        "ln_before": rng.random() < 0.3,
        "ln_after": rng.random() < 0.3,
        "is_parallel": rng.random() < 0.25,
        "scaling": rng.choice([1.0, 4.0, 0.5, "learned", "channel"]),
        "use_gating": rng.random() < 0.2,
        "residual_before_ln": rng.choice([True, True, False, "post_add"] if before else [True, False]),
        "adapter_residual_before_ln": rng.random() < 0.3,
        "leave_out": rng.choice([[], [], [0], [1, 2]]),
        "dropout": rng.choice([0.0, 0.1]),
    }
    if rng.random() < 0.2:
        values |= {"inv_adapter": "nice", "inv_adapter_reduction_factor": rng.choice([2, 4])}
    if phm:
        values |= {
            "phm_layer": True,
            "ln_before": False,
            "phm_dim": rng.choice([2, 4]),
            "factorized_phm_W": rng.random() < 0.5,
            "shared_phm_rule": rng.random() < 0.5,
            "factorized_phm_rule": rng.random() < 0.5,
            "phm_bias": rng.random() < 0.8,
            "phm_rank": rng.choice([1, 2]),
        }
        if values["factorized_phm_W"]:
            values["shared_W_phm"] = rng.random() < 0.5
    return adapters.BnConfig(**values)


def low_rank(rng: random.Random) -> Any:
    kind = rng.random()
    locations = {
        "selfattn_lora": True,
        "attn_matrices": rng.choice([["q"], ["q", "v"], ["q", "k", "v"]]),
        "leave_out": rng.choice([[], [1]]),
    }
    wide = {"intermediate_lora": rng.random() < 0.5, "output_lora": rng.random() < 0.5}
    if kind < 0.2:
        return adapters.IA3Config(**locations, **wide, use_gating=rng.random() < 0.3, alpha=rng.choice([1, 2]))
    if kind < 0.35:
        return adapters.VeraConfig(**locations, r=rng.choice([2, 4]), use_dora=rng.random() < 0.5)
    return adapters.LoRAConfig(
        **locations,
        **wide,
        r=rng.choice([2, 4, 8]),
        alpha=rng.choice([1, 8, 16]),
        use_gating=rng.random() < 0.2,
        use_dora=rng.random() < 0.3,
        dropout=rng.choice([0.0, 0.1]),
    )


def method(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.6:
        return bottleneck(rng)
    if kind < 0.9:
        return low_rank(rng)
    return adapters.ConfigUnion(low_rank(rng), bottleneck(rng))


def shares(config: Any) -> bool:
    parts = getattr(config, "configs", [config])
    return any(getattr(part, "phm_layer", False) or getattr(part, "vera_d", None) is not None for part in parts)


def add_head(model: Any, name: str, rng: random.Random, pooled: bool) -> None:
    model.add_classification_head(
        name,
        num_labels=rng.choice([1, 2, 5]),
        layers=rng.choice([1, 2, 3]),
        activation_function=rng.choice(["tanh", "relu", "gelu", "prelu"]),
        use_pooler=pooled and rng.random() < 0.5,
        overwrite_ok=True,
    )


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
    found = {key: value.clone() for key, value in out.items() if isinstance(value, torch.Tensor)}
    return found | {f"hidden_states.{i}": state.clone() for i, state in enumerate(out.hidden_states)}


def randomise_adapters(model: Any) -> None:
    for name, parameter in model.named_parameters():
        marks = (".adapters.", ".loras.", "invertible_adapters.", "shared_parameters.", "heads.")
        if any(mark in f".{name}" for mark in marks):
            noise = torch.randn_like(parameter) * 0.3
            ones = parameter.dim() == 1 and "norm" in name and name.endswith("weight")
            parameter.data = 1.0 + noise if ones or name.endswith(".m.weight") else noise


def write(model: Any, directory: Path, names: list[str], heads: list[str]) -> None:
    for kind in ("adapters", "adapters_safetensors", "heads", "heads_safetensors"):
        (directory / kind).mkdir(parents=True)
    for name in names:
        model.save_adapter(str(directory / "adapters" / name), name, with_head=False)
    for head in heads:
        model.save_head(str(directory / "heads" / head), head)
    try:
        for name in names:
            model.save_adapter(
                str(directory / "adapters_safetensors" / name), name, with_head=False, use_safetensors=True
            )
        for head in heads:
            model.save_head(str(directory / "heads_safetensors" / head), head, use_safetensors=True)
    except RuntimeError as error:  # the peer can't write tensors with two names
        sys.stderr.write(f"{directory.name}: {str(error)[:60]}\n")
        for path in sorted((directory / "adapters_safetensors").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def fixture(out: Path, number: int, rng: random.Random) -> None:
    family = rng.choice(list(FAMILIES))
    word, sizes = FAMILIES[family]
    config = getattr(transformers, f"{word}Config")(
        vocab_size=50, max_position_embeddings=40, **({"hidden_size": 32} if family != "distilbert" else {}), **sizes
    )
    base_dir = out / "bases" / f"adapters-{family}-{number}"
    base = getattr(transformers, f"{word}Model")(config)
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    names = ["a", "b", "c"][: rng.choice([1, 1, 1, 2, 3])]
    methods = [method(rng)]
    methods += [bottleneck(rng) for _ in names[1:]]  # a stack of two LoRAs only runs where all matrices are square
    rng.shuffle(methods)
    # From a plain model the peer does not save what layers share.
    plain = rng.random() < 0.3 and not any(shares(chosen) for chosen in methods)
    model = getattr(
        transformers if plain else adapters, f"{word}{'Model' if plain else 'AdapterModel'}"
    ).from_pretrained(base_dir)
    if plain:
        adapters.init(model)
    for name, chosen in zip(names, methods, strict=True):
        model.add_adapter(name, config=chosen)
    heads = [] if plain or rng.random() < 0.4 else [names[-1]]
    for head in heads:
        add_head(model, head, rng, pooled=family != "distilbert")
    randomise_adapters(model)
    model.eval()
    model.set_active_adapters(ac.Stack(*names))
    if heads:
        model.active_head = heads[0]
    inputs = {"input_ids": torch.randint(3, 50, (3, 11)), "attention_mask": torch.ones(3, 11, dtype=torch.long)}
    inputs["attention_mask"][1, 8:] = 0
    expected = outputs(model, inputs)
    bare = getattr(transformers, f"{word}Model").from_pretrained(base_dir).eval()
    expected |= {f"base.{key}": value for key, value in outputs(bare, inputs).items()}
    directory = out / "adapters-1.3.0" / f"{number:03}-{family}-{'-'.join(names)}{'-head' if heads else ''}"
    write(model, directory, names, heads)
    save_file(expected, directory / "expected.safetensors")
    save_file(inputs, directory / "inputs.safetensors")
    active = {"type": "Stack", "children": [{"type": "single", "children": [name]} for name in names]}
    composition = {
        "adapters": names,
        "active": active,
        "skip_layers": None,
        "fusion": [],
        "heads": heads,
        "active_head": heads[0] if heads else None,
    }
    meta = {
        "base": f"bases/{base_dir.name}",
        "base_class": f"{word}Model",
        "attn_implementation": "sdpa",
        "forward_kwargs": {},
        "model_type": family,
        "peer": "adapters",
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
        except (RuntimeError, ValueError, KeyError, AttributeError, UnboundLocalError) as error:
            sys.stderr.write(f"{number}: the peer fails: {type(error).__name__} {str(error)[:100]}\n")


if __name__ == "__main__":
    main()
