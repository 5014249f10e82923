"""Write random compositions in the corpus's layout with AdapterHub itself.

    ADAPTERHUB_PYTHON tests/parity/peers/make_compositions.py OUT [--seed 1] [--count 40]
    ADPM_PARITY_DIR=OUT pytest tests/parity

As ``make_adapterhub.py``, for fuse, parallel, split, batch, average, their nesting, skipped layers, and every kind of
head. The adapters of one case have one config: with several, the peer takes the first one's for all. With
``--prefixes`` each is a prefix of its own length, or now and then a LoRA, and there are no heads.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import composition as ac

sys.path.insert(0, str(Path(__file__).parent))
from make_adapterhub import (  # type: ignore[import-not-found]  # beside this file, which runs as a script
    ACTIVATIONS,
    FOUR,
    bottleneck,
    low_rank,
    prefix,
    randomise_adapters,
    record,
    write,
)
from small import SMALL, randomise  # type: ignore[import-not-found]  # as above

ROWS, TOKENS = 4, 11


def tree(rng: random.Random, names: list[str], depth: int, linear: bool) -> Any:
    """A random composition of some of ``names`` that the peer allows."""
    kinds = ["single", "stack", "batch", "average"] + ([] if linear else ["split"])
    kind = rng.choice(kinds) if depth else "single"
    if kind == "single":
        return rng.choice(names)
    children = [tree(rng, names, depth - 1, linear) for _ in range(2)]
    if kind == "stack":
        return ac.Stack(*rng.sample(names, 2))
    if kind == "average":
        children = [child for child in children if not isinstance(child, ac.Average)] or [names[0]]
        return ac.Average(*children, weights=[rng.choice([0.3, 1.0, 2.0]) for _ in children])
    if kind == "split":
        return ac.Split(*[c if isinstance(c, str) else names[0] for c in children], splits=[4, TOKENS - 4])
    flat = [child if isinstance(child, (str, ac.Stack)) else names[-1] for child in children]
    return ac.BatchSplit(*flat, batch_sizes=[1, ROWS - 1])


def of_prefixes(rng: random.Random, names: list[str]) -> Any:
    """A random composition that the peer allows of prefixes."""

    def row() -> Any:
        return rng.choice([*names, ac.Stack(*rng.sample(names, 2))])

    def batch(rows: int) -> Any:
        return ac.BatchSplit(row(), row(), batch_sizes=[1, rows - 1])

    kind = rng.choice(["stack", "batch", "batches", "parallel", "parallel", "parallels"])
    if kind == "stack":
        return ac.Stack(*rng.sample(names, rng.choice([2, 3])))
    if kind == "batch":
        return rng.choice([batch(ROWS), ac.Stack(names[0], batch(ROWS)), ac.Stack(batch(ROWS), names[0])])
    if kind == "batches":
        return ac.BatchSplit(batch(ROWS - 1), row(), batch_sizes=[ROWS - 1, 1])
    branches = [row() if kind == "parallel" else rng.choice([row(), batch(ROWS)]) for _ in range(rng.choice([2, 3]))]
    inner = ac.Parallel(*branches)
    return ac.Stack(names[0], inner) if rng.random() < 0.3 else inner


def composition(rng: random.Random, names: list[str], linear: bool) -> Any:
    kind = rng.choice(["tree", "tree", "parallel", "parallel", "fuse", "fuse"] if not linear else ["tree", "parallel"])
    if kind == "fuse":
        inner = ac.Fuse(*names[1:]) if rng.random() < 0.6 else ac.Fuse(ac.Stack(names[0], names[1]), names[2])
        return ac.Stack(names[0], inner) if rng.random() < 0.4 and inner[0] != ac.Stack(names[0], names[1]) else inner
    if kind == "parallel":
        branches = [rng.choice([*names, ac.Stack(*names[:2])]) for _ in range(rng.choice([2, 3]))]
        inner = ac.Parallel(*branches)
        return ac.Stack(names[0], inner) if rng.random() < 0.3 else inner
    found = tree(rng, names, 2, linear)
    return found if not isinstance(found, str) else ac.Stack(found, names[-1])


def head_settings(rng: random.Random, kind: str, pooled: bool) -> dict[str, Any]:
    """Random settings of a head of this type."""
    many = {
        "num_labels": rng.choice([2, 5]),
        "layers": rng.choice([1, 2, 3]),
        "activation_function": rng.choice([*ACTIVATIONS, None]) if rng.random() < 0.5 else "tanh",
    }
    pool = {"use_pooler": pooled and rng.random() < 0.5}
    lm = {"layers": rng.choice([1, 2, 3]), "activation_function": rng.choice(["gelu", "relu", "tanh"])}
    norms = {"layer_norm": rng.random() < 0.5, "bias": rng.random() < 0.5}
    types: dict[str, dict[str, Any]] = {
        "classification": {**many, **pool, "num_labels": rng.choice([1, 2, 5]), "bias": rng.random() < 0.8},
        "multilabel_classification": {**many, **pool},
        "image_classification": {**many, **pool, "multilabel": rng.random() < 0.5},
        "tagging": many,
        "question_answering": {**many, "num_labels": 2},
        "multiple_choice": {**{k: v for k, v in many.items() if k != "num_labels"}, **pool, "num_choices": 2},
        "dependency_parsing": {"num_labels": 3},
        "masked_lm": lm,
        "causal_lm": {**lm, **norms},
        "seq2seq_lm": {**lm, **norms},
    }
    return types[kind]


def add_head(model: Any, name: str, rng: random.Random, pooled: bool) -> None:
    kind = rng.choice(list(model.head_types))
    settings = head_settings(rng, kind, pooled)
    model.add_prediction_head_from_config(name, {"head_type": kind, **settings}, overwrite_ok=True)


def add_heads(rng: random.Random, model: Any, active: Any, pooled: bool) -> list[str]:
    """A head for each branch that has one in the peer: their names, in order; none where the model has no heads."""
    wanted = ac.parse_heads_from_composition(active) if getattr(model, "head_types", None) else None
    heads = [wanted] if isinstance(wanted, str) else list(wanted or [])
    for head in dict.fromkeys(heads):
        add_head(model, head, rng, pooled and len(heads) == 1)  # the peer gives each of several what is pooled of all
    return heads


def three_prefixes(rng: random.Random) -> list[Any]:
    found = [prefix(rng), prefix(rng), rng.choice([prefix(rng), adapters.LoRAConfig(r=4)])]
    rng.shuffle(found)
    return found


def three_alike(rng: random.Random, family: str, linear: bool) -> list[Any]:
    chosen = low_rank(rng) if linear else bottleneck(rng, family)
    if linear and (chosen.use_gating or chosen.use_dora):  # the last one's norm for all: decision 0020
        chosen = adapters.LoRAConfig(r=4, alpha=8)
    return [chosen] * 3


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
    found = {f"hidden_states.{i}": s.clone() for i, s in enumerate(getattr(out, "hidden_states", None) or ())}
    heads = getattr(out, "head_outputs", None)
    for before, part in [("", out)] if heads is None else [(f"head{i}.", head) for i, head in enumerate(heads)]:
        found |= {f"{before}{key}": v.clone().contiguous() for key, v in part.items() if isinstance(v, torch.Tensor)}
    return found


def outputs_of_base(bare: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the base gives without an adapter, as the corpus names it; where words start a head alone wants to know."""
    plain = {key: value for key, value in inputs.items() if key != "word_starts"}
    return {f"base.{key}": value for key, value in outputs(bare, plain).items()}


def description(
    names: list[str], active: Any, skipped: list[int] | None, fusions: list[str], heads: list[str]
) -> dict[str, Any]:
    """What is active, as ``composition.json`` has it."""
    return {
        "adapters": names,
        "active": active.to_dict(),
        "skip_layers": skipped,
        "fusion": [{"name": name, "adapters": name.split(",")} for name in fusions],
        "heads": heads,
    }


def add_fusions(rng: random.Random, model: Any, active: Any) -> list[str]:
    """Weights for every fusion in ``active``, with random settings: their names."""
    fusions = [
        block for block in (active, *(active if isinstance(active, ac.Stack) else ())) if isinstance(block, ac.Fuse)
    ]
    for block in fusions:
        config = adapters.AdapterFusionConfig.load(rng.choice(["dynamic", "static"]))
        changes = {key: rng.random() < 0.5 for key in ("query_before_ln", "residual_before", "value_before_softmax")}
        model.add_adapter_fusion(block, config.replace(**changes))
    return [block.name for block in fusions]


def fixture(out: Path, number: int, rng: random.Random, families: Sequence[str], *, prefixes: bool) -> None:
    family = rng.choice(families)
    word = SMALL[family].word
    base_dir = out / "bases" / f"adapters-{family}-{number}"
    base = SMALL[family].model()
    randomise(base, 0.15)
    base.save_pretrained(base_dir)
    names = ["a", "b", "c"]
    linear = not prefixes and rng.random() < 0.25
    configs = three_prefixes(rng) if prefixes else three_alike(rng, family, linear)
    attention = {"attn_implementation": rng.choice(["eager", "sdpa"])} if prefixes else {}
    model = getattr(adapters, f"{word}AdapterModel").from_pretrained(base_dir, **attention)
    for name, config in zip(names, configs, strict=True):
        model.add_adapter(name, config=config)
    active = of_prefixes(rng, names) if prefixes else composition(rng, names, linear)
    fusions = add_fusions(rng, model, active)
    heads: list[str] = []
    if not prefixes and rng.random() < 0.6:
        heads = add_heads(rng, model, active, pooled=family != "distilbert")
    randomise_adapters(model)
    model.eval()
    skipped = [0] if rng.random() < 0.15 else None
    model.set_active_adapters(active, skip_layers=skipped)
    inputs = {
        "input_ids": torch.randint(3, 50, (ROWS, TOKENS)),
        "attention_mask": torch.ones(ROWS, TOKENS, dtype=torch.long),
    }
    if not prefixes or rng.random() < 0.7:
        inputs["attention_mask"][1, 8:] = 0
    if any(model.heads[head].config["head_type"] == "dependency_parsing" for head in heads):
        inputs["word_starts"] = torch.tensor([[1, 2, 4, 5, 7, 8, 0, 0, 0, 0, 0]] * ROWS)
    if not heads:
        model.active_head = None
    bare = getattr(transformers, f"{word}{SMALL[family].base}").from_pretrained(base_dir, **attention).eval()
    expected = outputs(model, inputs) | outputs_of_base(bare, inputs)
    directory = out / "adapters-1.3.0" / f"{number:03}-{family}-{type(active).__name__.lower()}"
    write(model, directory, names, list(dict.fromkeys(heads)), fusions)
    described = description(names, active, skipped, fusions, heads)
    record(directory, bare, base_dir, (inputs, expected), described, model_type=family, note=str(active))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--prefixes", action="store_true")
    parser.add_argument("--families", nargs="+", default=FOUR)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(40)
    for number in range(arguments.count):
        seed = arguments.seed * 1000 + number
        torch.manual_seed(seed)
        try:
            fixture(arguments.out, number, random.Random(seed), arguments.families, prefixes=arguments.prefixes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer can't run the case
            sys.stderr.write(f"{number}: the peer fails: {type(error).__name__} {str(error)[:100]}\n")


if __name__ == "__main__":
    main()
