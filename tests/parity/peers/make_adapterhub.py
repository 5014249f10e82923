"""Write random fixtures in the corpus's layout with AdapterHub itself.

    ADAPTERHUB_PYTHON tests/parity/peers/make_adapterhub.py OUT [--seed 1] [--count 40]
    ADPM_PARITY_DIR=OUT pytest tests/parity

Runs in an environment with ``adapters`` 1.3.0 and without adpm. Every option of the bottleneck and LoRA configs is
drawn at random, on the model families asked for, alone and stacked, with and without a head; all weights are random.
With ``--prefixes`` the first adapter of each case is a prefix, and no image model has relative positions.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import composition as ac
from safetensors.torch import save_file
from small import (  # type: ignore[import-not-found]  # beside this file, which runs as a script
    SMALL,
    model_inputs,
    randomise,
    tensors_of,
)

# What the peer reaches by its interface: plain models, that it can't write shared tensors from, and no AdapterModel.
PLAIN = ("qwen2", "qwen3", "gemma2", "gemma3_text", "modernbert")
NORMED = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta", "deberta-v2", "albert", "bart")
FOUR = ("bert", "roberta", "xlm-roberta", "distilbert")
FAMILIES = (
    *FOUR,
    *("electra", "deberta", "deberta-v2", "albert", "gpt2", "gptj", "llama", "mistral", "t5", "mt5", "bart", "mbart"),
    *("whisper", "vit", "beit", "clip", "bert-generation", "plbart", *PLAIN),
)
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
# What stands in the names of adapters' parameters, of fusions' and heads'.
MARKS = (
    *(".adapters.", ".loras.", "invertible_adapters.", "shared_parameters.", "heads.", "adapter_fusion_layer."),
    *("prefix_", "prompt_", ".refts."),
)


def possible(values: dict[str, Any], family: str) -> dict[str, Any]:
    """``values`` without what the peer can't do in ``family``."""
    if values["residual_before_ln"] == "post_add" and family not in NORMED:
        values["residual_before_ln"] = True
    if family in ("vit", "beit"):
        values.pop("inv_adapter", None)
    if family in PLAIN:
        values["original_ln_after"] = True
        values = {key: value for key, value in values.items() if "phm" not in key}
    return values


def bottleneck(rng: random.Random, family: str) -> Any:
    before = rng.random() < 0.5
    phm = rng.random() < 0.25
    values: dict[str, Any] = {
        "mh_adapter": rng.random() < 0.5,
        "output_adapter": True,
        "cross_adapter": rng.random() < 0.5,
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
    return adapters.BnConfig(**possible(values, family))


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


def prefix(rng: random.Random) -> Any:
    return adapters.PrefixTuningConfig(
        flat=rng.random() < 0.5,
        prefix_length=rng.choice([1, 2, 3, 6]),
        bottleneck_size=8,
        non_linearity=rng.choice(["tanh", "relu"]),
        use_gating=rng.random() < 0.4,
        shared_gating=rng.random() < 0.5,
        leave_out=rng.choice([[], [], [1]]),
    )


def method(rng: random.Random, family: str) -> Any:
    kind = rng.random()
    if kind < 0.6:
        return bottleneck(rng, family)
    if kind < 0.9:
        return low_rank(rng)
    return adapters.ConfigUnion(low_rank(rng), bottleneck(rng, family))


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
        found: dict[str, torch.Tensor] = tensors_of(model(**inputs, output_hidden_states=True))
    return found


def randomise_adapters(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if any(mark in f".{name}" for mark in MARKS):
            noise = torch.randn_like(parameter) * 0.3
            ones = parameter.dim() == 1 and "norm" in name and name.endswith("weight")
            if name.endswith(".original"):  # of an orthogonal matrix: signs stand on its diagonal
                noise.fill_diagonal_(1.0)
            parameter.data = 1.0 + noise if ones or name.endswith(".m.weight") else noise


def write(model: Any, directory: Path, names: list[str], heads: list[str], fusions: Sequence[str] = ()) -> None:
    for kind in ("adapters", "adapters_safetensors", "heads", "heads_safetensors"):
        (directory / kind).mkdir(parents=True)
    for name in names:
        model.save_adapter(str(directory / "adapters" / name), name, with_head=False)
    for head in heads:
        model.save_head(str(directory / "heads" / head), head)
    for name in fusions:
        model.save_adapter_fusion(str(directory / "fusion"), name)
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
        return
    for name in fusions:
        model.save_adapter_fusion(str(directory / "fusion_safetensors"), name, use_safetensors=True)


def record(
    directory: Path,
    bare: Any,
    base_dir: Path,
    tensors: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]],
    composition: dict[str, Any],
    **meta: Any,
) -> None:
    """Write what the corpus holds beside weights: ``tensors`` are inputs and what is expected, ``bare`` the base."""
    inputs, expected = tensors
    save_file(expected, directory / "expected.safetensors")
    save_file(inputs, directory / "inputs.safetensors")
    described: dict[str, Any] = {"skip_layers": None, "fusion": [], **composition}
    heads = described["heads"]
    described |= {"active_head": heads[0] if len(heads) == 1 else heads or None}
    told = {
        "base": f"bases/{base_dir.name}",
        "base_class": type(bare).__name__,
        "attn_implementation": bare.config._attn_implementation,
        "bases_may_differ": True,  # between releases of transformers: such outputs say nothing about adapters
        "forward_kwargs": {},
        "peer": "adapters",
        "tolerance_abs": 2e-5 * max(1.0, *(float(value.abs().max()) for value in expected.values())),
        **meta,
    }
    (directory / "composition.json").write_text(json.dumps(described), "utf-8")
    (directory / "meta.json").write_text(json.dumps(told), "utf-8")


def fixture(out: Path, number: int, rng: random.Random, family: str, *, prefixes: bool) -> None:
    small = SMALL[family]
    word = small.word
    base_dir = out / "bases" / f"adapters-{family}-{number}"
    plain_positions = prefixes and "use_relative_position_bias" in small.settings
    base = small.model(**{"use_relative_position_bias": False} if plain_positions else {})
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    names = ["a", "b", "c"][: rng.choice([1, 1, 1, 2, 3])]
    methods = [prefix(rng) if prefixes else method(rng, family)]
    methods += [
        bottleneck(rng, family) for _ in names[1:]
    ]  # a stack of two LoRAs only runs where all matrices are square
    rng.shuffle(methods)
    # From a plain model the peer does not save what layers share.
    shared = any(shares(chosen) for chosen in methods)
    if family in PLAIN and shared:
        raise ValueError("from a plain model it saves no shared tensors")
    plain = family in PLAIN or (rng.random() < 0.3 and not shared and family in FOUR)
    attention = {"attn_implementation": rng.choice(["eager", "sdpa"])} if prefixes else {}
    model = getattr(
        transformers if plain else adapters, f"{word}{'Model' if plain else 'AdapterModel'}"
    ).from_pretrained(base_dir, **attention)
    if plain:
        adapters.init(model)
        for name, parameter in model.named_parameters():
            if name.endswith("Wqkv.bias"):  # which ModernBERT does not have, and the peer leaves random
                parameter.data.zero_()
    for name, chosen in zip(names, methods, strict=True):
        model.add_adapter(name, config=chosen)
    heads = [] if plain or family not in FOUR or rng.random() < 0.4 else [names[-1]]
    for head in heads:
        add_head(model, head, rng, pooled=family != "distilbert")
    randomise_adapters(model)
    model.eval()
    model.set_active_adapters(ac.Stack(*names))
    if heads:
        model.active_head = heads[0]
    inputs = model_inputs(small.kind, seed=number, padded=not prefixes or rng.random() < 0.7)
    expected = outputs(model, inputs)
    if family == "t5":  # T5AdapterModel scales it for its heads, T5Model does not
        expected["last_hidden_state"] = expected["last_hidden_state"] * small.settings["d_model"] ** 0.5
    bare = getattr(transformers, f"{word}{SMALL[family].base}").from_pretrained(base_dir, **attention).eval()
    expected |= {f"base.{key}": value for key, value in outputs(bare, inputs).items()}
    directory = out / "adapters-1.3.0" / f"{number:03}-{family}-{'-'.join(names)}{'-head' if heads else ''}"
    write(model, directory, names, heads)
    active = ac.Stack(*names).to_dict()
    composition = {"adapters": names, "active": active, "heads": heads}
    record(directory, bare, base_dir, (inputs, expected), composition, model_type=family)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FOUR)
    parser.add_argument("--prefixes", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    for number in range(arguments.count):
        seed = arguments.seed * 1000 + number
        torch.manual_seed(seed)
        try:
            rng = random.Random(seed)
            fixture(arguments.out, number, rng, rng.choice(arguments.families), prefixes=arguments.prefixes)
        except (RuntimeError, ValueError, KeyError, AttributeError, UnboundLocalError) as error:
            sys.stderr.write(f"{number}: the peer fails: {type(error).__name__} {str(error)[:100]}\n")


if __name__ == "__main__":
    main()
