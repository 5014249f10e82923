"""What configs of PEFT's methods have in common, drawn at random, and sizes of small models. Runs without adpm."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any, Final

import peft
import torch

__all__ = ["forget", "resize", "rows_of", "vary"]

_WIDTHS: Final = ("hidden_size", "dim", "n_embd", "d_model")
_INNER: Final = ("intermediate_size", "hidden_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim")
_DEPTHS: Final = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers")
_HEADS: Final = ("classifier", "score", "qa_outputs", "lm_head", "pooler", "embed_out", "classification_head")
_OWN_HEADS: Final = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "Model": "FEATURE_EXTRACTION",
}


def resize(settings: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Other widths, depths and inner sizes for a small model; those inside it stay of one width."""
    width, depth = rng.choice([24, 32, 40]), rng.choice([1, 2, 3])
    out: dict[str, Any] = {}
    for key, value in settings.items():
        inner = rng.choice([64, 52, 30])
        own = next((new for names, new in ((_WIDTHS, width), (_INNER, inner), (_DEPTHS, depth)) if key in names), value)
        out[key] = resize(value, rng) if isinstance(value, dict) else own
    if "num_decoder_layers" in out:
        out["num_decoder_layers"] = rng.choice([1, 2, 3])
    return out


def vary(config: Any, rng: random.Random, model: torch.nn.Module) -> Any:
    """``config`` with some of the options that are not its method's own, as far as the method has them."""
    if config.peft_type.value == "TRAINABLE_TOKENS":
        return config
    known = {entry.name for entry in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    names = sorted(config.target_modules) if isinstance(getattr(config, "target_modules", None), (set, list)) else []
    if config.task_type is None and rng.random() < 0.5:
        changes["task_type"] = next(
            (task for word, task in _OWN_HEADS.items() if type(model).__name__.endswith(word)), None
        )
    if names:
        changes |= _targets(names, rng, model, known)
    own = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in _HEADS]
    norms = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if "Norm" in type(part).__name__})
    if "modules_to_save" in known and not config.modules_to_save and (own or norms) and rng.random() < 0.3:
        changes["modules_to_save"] = [rng.choice([name.rpartition(".")[2] for name in own] or norms)]
    if "bias" in known and config.bias == "none" and rng.random() < 0.3:
        changes["bias"] = rng.choice(["all", f"{config.peft_type.value.lower()}_only"])
    if names and {"rank_pattern", "alpha_pattern"} <= known and config.peft_type.value != "ADALORA":
        keys = [names[0], rf"layers?\.\d+\..*{re.escape(names[-1])}", rf".*\.1\..*{re.escape(names[0])}"]
        # In the order that the peer's files have: it is lost there, and the first pattern that fits counts.
        some = [sorted(rng.sample(keys, rng.choice([0, 1, 2]))) for _ in range(2)]
        changes["rank_pattern"] = {key: rng.choice([1, 2, 3, 5]) for key in some[0]}
        changes["alpha_pattern"] = {key: rng.choice([3, 8]) for key in some[1]}
    return dataclasses.replace(config, **changes) if changes else config


def _targets(names: list[str], rng: random.Random, model: torch.nn.Module, known: set[str]) -> dict[str, Any]:
    """Another way to name targets, which layers have them, and which modules have not."""
    there = [name for name, _ in model.named_modules() if any(f".{name}".endswith(f".{word}") for word in names)]
    numbers = sorted({int(part) for name in there for part in name.split(".") if part.isdigit()})
    stacks = sorted({found[1] for name in there if (found := re.search(r"(\w+)\.\d+\.", name))})
    word = "|".join(map(re.escape, names))
    out: dict[str, Any] = {}
    way = rng.random()
    if way < 0.2 and numbers:
        out["target_modules"] = rng.choice([rf".*\.{rng.choice(numbers)}\..*({word})", rf".*\b({word})$"])
    elif way < 0.3:
        out["target_modules"] = "all-linear"
    elif way < 0.4 and there:
        out["target_modules"] = rng.sample(there, min(len(there), 3))
    elif way < 0.6 and numbers and "layers_to_transform" in known:
        out["layers_to_transform"] = rng.choice([rng.choice(numbers), numbers[:2]])
        out["layers_pattern"] = rng.choice([None, stacks, stacks[0]]) if stacks else None
    if "exclude_modules" in known and there and rng.random() < 0.25:
        out["exclude_modules"] = rng.choice([there[:1], rf".*\.{numbers[-1]}\..*" if len(numbers) > 1 else there[-1:]])
    return out


def rows_of(inputs: dict[str, torch.Tensor], rng: random.Random) -> dict[str, torch.Tensor]:
    """One to three rows of ``inputs``, of texts sometimes with the padding in front."""
    count = rng.choice([1, 2, 3, 3])
    out = {name: value[:count].clone() for name, value in inputs.items()}
    if "attention_mask" in out and rng.random() < 0.3:
        out["attention_mask"] = out["attention_mask"].flip(1).contiguous()
    return out


def forget(directory: Path, rng: random.Random) -> None:
    """Make a config one of an older version: without keys that have their default, and with such as there were."""
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    kind = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]]
    defaults = {entry.name: entry.default for entry in dataclasses.fields(kind)}
    gone = [
        key
        for key, value in config.items()
        if key == "peft_version" or (key not in ("peft_type", "task_type") and value == defaults.get(key, ...))
    ]
    kept = {key: value for key, value in config.items() if key not in gone or rng.random() < 0.2}
    if config["peft_type"] == "LORA":
        kept |= {"enable_lora": None, "merge_weights": False}
    path.write_text(json.dumps(kept), "utf-8")
