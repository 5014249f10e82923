"""Trains the demo's adapters with adpm itself, measures them, and writes what ``adpm demo`` ships.

    python -m tests.training.train_demo --cache DIR                     print the figures, write nothing
    python -m tests.training.train_demo --cache DIR --out adpm/demo     the same, and write the packages
    python -m tests.training.train_demo --cache DIR --seed 1 --compare  another seed, and what a stack gains

Needs apt-get, dpkg and npm to fetch the texts into DIR once (``data.py``), then no network. One seed takes about
25 CPU minutes on one core of two (AVX2, 2.5 GHz), with ``--compare`` about 40. The same machine, seed and library
versions give the same bytes; other machines round otherwise, and their figures differ in the last example or two.

The story. ``domain/reviews-and-mail`` learns without labels, from reviews and mails, to say in the first token what
a text is about. Tasks are trained on top of one release of it: without it they are no better than a bare head, on
another release two to three points of a hundred worse. That is what their ``requires`` are for.

| release | trained on | requires of the domain |
|---|---|---|
| domain/reviews-and-mail 1.0.0 | 3,992 reviews and 2,482 mails, no labels | |
| domain/reviews-and-mail 2.0.0 | the mails alone, from other starting weights | |
| text/food-reviews 1.0.0 | 500 labelled reviews | >=1,<2 |
| text/food-reviews 1.1.0 | all 3,992 | >=1,<2 |
| text/spam 1.0.0 | 2,482 mails: ham or spam | >=1,<2 |
| text/spam 2.0.0 | the same: ham, bulk or spam; other labels make another major version | >=2,<3 |

One model holds one release of the domain. A project with ``text/food-reviews`` has 1.x, and the newest ``text/spam`` is
none that fits it.

The *bare head* is what there is without adapters: a linear layer on the frozen base's first token, the same head with
the same texts, and ten times the epochs. Settings were chosen on 600 texts of the training part; the held-out
texts were left for the figures.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.training import data
from tests.training.data import Example, Split
from tests.training.learn import BASE, Bench, Labelled, classify, contrast, hits, probe

REDUCTION: Final = 32
RATE: Final = 2e-3
DOMAIN_RATE: Final = 1e-3
BARE_RATE: Final = 1e-2
BARE_EPOCHS: Final = 20
FEW: Final = 500
HAM: Final = 1600  # of 3,496: more would only teach that mail is ham
SHIPPED: Final = 300  # held-out texts of each task that go with the demo
FOOD: Final = {"other": 0, "great": 1}
SPAM: Final = {"ham": 0, "spam": 1}
SPAM_3: Final = {"ham": 0, "bulk": 1, "spam": 2}


@dataclass(frozen=True, slots=True)
class Package:
    """What the ``package:`` section of one release says, and the adapter on the model that it is."""

    adapter: str
    name: str
    version: str
    description: str
    license: str
    task: str | None = None
    requires: tuple[str, ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One task's labels, what it trains on and for how many epochs, and what it is measured on."""

    labels: dict[str, int]
    train: Labelled
    epochs: int
    held_out: Labelled


class Figures:
    """Accuracies in the order in which they were measured, printed as they come."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.values: dict[str, float] = {}

    def measure(self, composition: str, held_out: Labelled, what: str = "") -> None:
        """On all held-out texts, and on the first of them, which are shipped."""
        right = hits(self.bench, composition, held_out)
        self._add(f"{composition}{what}, all {len(right)} held out", sum(right) / len(right))
        self._add(f"{composition}{what}, the {SHIPPED} shipped", sum(right[:SHIPPED]) / SHIPPED)

    def _add(self, what: str, value: float) -> None:
        self.values[what] = round(value, 4)
        print(f"{value:7.4f}  {what}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description="Train and measure the demo's adapters.")
    options.add_argument("--cache", type=Path, required=True, help="where the texts are fetched to")
    options.add_argument("--out", type=Path, help="write packages and held-out texts there")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--compare", action="store_true", help="train each task without the domain too")
    chosen = options.parse_args()
    food, mail = data.food(chosen.cache), _fewer_ham(data.mail(chosen.cache))
    print(f"reviews {food.digest()[:12]}, mails {mail.digest()[:12]}, seed {chosen.seed}", flush=True)
    began = time.process_time()
    bench = Bench(chosen.seed)
    figures = Figures(bench)
    tasks = _tasks(bench, food, mail)
    train_bare(bench, tasks, figures)
    train_first(bench, tasks, [e.text for part in (food.train, mail.train) for e in part], figures, lone=chosen.compare)
    if chosen.out is not None:
        train_second(bench, tasks, mail, figures)
        write(chosen.out, bench, figures, {"food": food.held_out, "spam": _two(mail.held_out)})
    print(f"{(time.process_time() - began) / 60:.0f} CPU minutes")


def _tasks(bench: Bench, food: Split, mail: Split) -> dict[str, Task]:
    reviews, mails = bench.labelled(food.train, FOOD), bench.labelled(_two(mail.train), SPAM)
    few = Labelled(reviews.ids[:FEW], reviews.labels[:FEW])
    held_food, held_mail = bench.labelled(food.held_out, FOOD), bench.labelled(_two(mail.held_out), SPAM)
    return {
        "food_few": Task(FOOD, few, 4, held_food),
        "food": Task(FOOD, reviews, 2, held_food),
        "spam": Task(SPAM, mails, 2, held_mail),
    }


def train_bare(bench: Bench, tasks: dict[str, Task], figures: Figures) -> None:
    """What there is without adapters."""
    for name, task in tasks.items():
        _add(bench, f"bare_{name}", task.labels, bare=True)
        probe(bench, f"bare_{name}", task.train, epochs=BARE_EPOCHS, rate=BARE_RATE)
        figures.measure(f"bare_{name}", task.held_out)


def train_first(bench: Bench, tasks: dict[str, Task], texts: Sequence[str], figures: Figures, *, lone: bool) -> None:
    """The domain's first release and the tasks on top of it; with ``lone`` each task without the domain too."""
    _add(bench, "domain_1")
    contrast(bench, "domain_1", texts, epochs=1, rate=DOMAIN_RATE)
    for name, task in tasks.items():
        _add(bench, name, task.labels)
        classify(bench, name, task.train, epochs=task.epochs, rate=RATE, below="domain_1")
        figures.measure(f"stack(domain_1, {name})", task.held_out)
        if lone:
            _add(bench, f"lone_{name}", task.labels)
            classify(bench, f"lone_{name}", task.train, epochs=task.epochs, rate=RATE)
            figures.measure(f"lone_{name}", task.held_out)


def train_second(bench: Bench, tasks: dict[str, Task], mail: Split, figures: Figures) -> None:
    """The domain's second release, spam with three labels on it, and what comes of mixing releases up."""
    _add(bench, "domain_2", start="2")
    contrast(bench, "domain_2", [e.text for e in mail.train], epochs=1, rate=DOMAIN_RATE)
    _add(bench, "spam_3", SPAM_3)
    classify(bench, "spam_3", bench.labelled(mail.train, SPAM_3), epochs=2, rate=RATE, below="domain_2")
    figures.measure("stack(domain_2, spam_3)", bench.labelled(mail.held_out, SPAM_3))
    for name in ("food", "spam"):
        figures.measure(name, tasks[name].held_out, " without its domain")
        figures.measure(f"stack(domain_2, {name})", tasks[name].held_out, " on the wrong domain")


def _add(bench: Bench, name: str, labels: dict[str, int] | None = None, *, bare: bool = False, start: str = "") -> None:
    """A new adapter; a bare one has a head and no layers. ``start`` picks other starting weights than all have."""
    head = None
    if labels is not None:
        head = {"num_labels": len(labels), "layers": 1, "activation_function": None, "label2id": labels}
    reach = {"leave_out": list(range(bench.model.config.num_hidden_layers))} if bare else {}
    bench.adapters.add(
        name, "pfeiffer", head=head, generator=bench.generator(start), reduction_factor=REDUCTION, **reach
    )


def _two(examples: Sequence[Example]) -> list[Example]:
    return [Example(e.text, "spam" if e.label == "spam" else "ham") for e in examples]


def _fewer_ham(mail: Split) -> Split:
    ham = [e for e in mail.train if e.label == "ham"][:HAM]
    train = [*(e for e in mail.train if e.label != "ham"), *ham]
    random.Random(0).shuffle(train)
    return Split(tuple(train), mail.held_out)


def _packages(figures: Figures) -> list[Package]:
    def scored(name: str, dataset: str, below: str = "domain_1") -> tuple[dict[str, Any], ...]:
        value = figures.values[f"stack({below}, {name}), the {SHIPPED} shipped"]
        return ({"name": "accuracy", "value": value, "dataset": dataset, "split": f"held-out {SHIPPED}"},)

    domain, both = "domain/reviews-and-mail", "Apache-2.0"
    return [
        Package("domain_1", domain, "1.0.0", "Reviews and mails, learnt without labels", both),
        Package(
            "domain_2", domain, "2.0.0", "Trained anew, on mails alone: what was trained on 1.x does not fit", both
        ),
        *(
            Package(
                adapter,
                "text/food-reviews",
                version,
                f"Is a food review great or other? Trained on {count} reviews",
                "MIT",
                task="sentiment/food-reviews",
                requires=(f"{domain} >=1,<2",),
                metrics=scored(adapter, "food-reviews"),
            )
            for adapter, version, count in (("food_few", "1.0.0", FEW), ("food", "1.1.0", 3992))
        ),
        Package(
            "spam",
            "text/spam",
            "1.0.0",
            "Is a mail ham or spam?",
            both,
            task="spam/spam-assassin",
            requires=(f"{domain} >=1,<2",),
            metrics=scored("spam", "spam-assassin"),
        ),
        Package(
            "spam_3",
            "text/spam",
            "2.0.0",
            "Is a mail ham, bulk or spam? Three labels where 1.x has two",
            both,
            task="spam/spam-assassin",
            requires=(f"{domain} >=2,<3",),
            metrics=scored("spam_3", "spam-assassin", "domain_2"),
        ),
    ]


def write(out: Path, bench: Bench, figures: Figures, held_out: dict[str, Sequence[Example]]) -> None:
    """The packages, the bare heads, the held-out texts and the figures, in place of what was there."""
    for part in ("packages", "bare", "held_out"):
        shutil.rmtree(out / part, ignore_errors=True)
    for package in _packages(figures):
        root = out / "packages" / f"{package.name.split('/')[-1]}-{package.version}"
        bench.adapters.save(package.adapter, root, format="adapterhub")
        (root / "adapter.yaml").write_text(_manifest(package), encoding="utf-8")
    for task in ("food", "spam"):
        bench.adapters.save(f"bare_{task}", out / "bare" / task, format="adapterhub")
    (out / "held_out").mkdir(parents=True)
    for name, examples in held_out.items():
        lines = [json.dumps({"label": e.label, "text": e.text}, ensure_ascii=False) for e in examples[:SHIPPED]]
        (out / "held_out" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = json.dumps({"seed": bench.seed, "accuracy": figures.values}, indent=2, sort_keys=True) + "\n"
    (out / "figures.json").write_text(content, encoding="utf-8")


def _manifest(package: Package) -> str:
    """Its ``adapter.yaml``. Every value is written as JSON, which is YAML: a version stays a text."""
    rows = {
        "name": package.name,
        "version": package.version,
        "description": package.description,
        "task": package.task,
        "language": "en",
        "license": package.license,
        "requires": list(package.requires),
        "metrics": list(package.metrics),
    }
    section = [f"  {key}: {json.dumps(value)}" for key, value in rows.items() if value]
    return "\n".join([f"base: {BASE}", "package:", *section]) + "\n"


if __name__ == "__main__":
    main()
