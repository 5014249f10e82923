"""The demo's packages and texts as they ship: small, publishable, without addresses, and as good as they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adpm.ops.package import read_package

DEMO = Path(__file__).parents[2] / "adpm" / "demo"
FILES = sorted(path for path in DEMO.rglob("*") if path.is_file())
PACKAGES = sorted((DEMO / "packages").iterdir())
LARGEST = 2_000_000  # bytes, all in all
ADRIFT = 3  # held-out texts that another machine's rounding may turn


def held_out(task: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / "held_out" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


def figures() -> dict[str, float]:
    found: dict[str, float] = json.loads((DEMO / "figures.json").read_text(encoding="utf-8"))["accuracy"]
    return found


def test_all_of_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < LARGEST


@pytest.mark.parametrize("task", ["food", "spam"])
def test_no_text_holds_an_address_or_a_link(task: str) -> None:
    rows = held_out(task)
    assert len(rows) == 300
    assert len({row["text"] for row in rows}) == 300
    for row in rows:
        assert "@" not in row["text"]
        assert not re.search(r"https?://|www\.", row["text"], re.IGNORECASE)


@pytest.mark.parametrize("root", PACKAGES, ids=lambda root: root.name)
def test_each_package_can_be_published(root: Path) -> None:
    header = read_package(root).header
    assert root.name == f"{str(header.name).split('/')[-1]}-{header.version}"
    assert header.license in ("MIT", "Apache-2.0")


def test_files_name_no_place_of_the_machine_that_wrote_them() -> None:
    for path in FILES:
        if path.suffix == ".json":
            assert not re.search(rb'"/|\\\\|site-packages', path.read_bytes()), path


@pytest.mark.parametrize(
    ("task", "labels", "package", "gain"),
    [
        ("food", {"other": 0, "great": 1}, "food-reviews-1.1.0", 0.08),
        ("spam", {"ham": 0, "spam": 1}, "spam-1.0.0", 0.01),
    ],
)
def test_the_stack_beats_the_bare_head_by_what_the_figures_say(
    task: str, labels: dict[str, int], package: str, gain: float
) -> None:
    pytest.importorskip("torch", reason="the runtime is not installed")
    from tests.training.data import Example  # noqa: PLC0415 - learn needs torch
    from tests.training.learn import Bench, hits  # noqa: PLC0415

    bench = Bench(0)
    texts = bench.labelled([Example(row["text"], row["label"]) for row in held_out(task)], labels)
    bench.adapters.read(DEMO / "bare" / task, "bare")
    bench.adapters.read(DEMO / "packages" / "reviews-and-mail-1.0.0", "domain")
    bench.adapters.read(DEMO / "packages" / package, "task")
    bare, adapted = (sum(hits(bench, composition, texts)) for composition in ("bare", "stack(domain, task)"))
    assert abs(bare - 300 * figures()[f"bare_{task}, the 300 shipped"]) <= ADRIFT
    assert abs(adapted - 300 * figures()[f"stack(domain_1, {task}), the 300 shipped"]) <= ADRIFT
    assert adapted - bare >= 300 * gain
