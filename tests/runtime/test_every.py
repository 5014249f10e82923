"""Every method of both formats on every family: what `trial` holds it to, and that README's table says what is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from tests.runtime.every.methods import FAMILY_NAMES, METHODS
from tests.runtime.every.table import OURS, PEERS, README, grouped, in_readme, text_of
from tests.runtime.every.trial import model_of, trial

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:DeprecationWarning"
)  # DeBERTa's module, when imported

FOUND = json.loads(OURS.read_text("utf-8"))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_method_does_what_the_table_says(family: str, tmp_path: Path) -> None:
    """Where this fails on a new method or a mended one: ``python -m tests.runtime.every`` makes the table anew."""
    model = model_of(family)
    found = {method: trial(method, family, model, tmp_path / method) for method in METHODS}
    if transformers.__version__ < "5":  # where an attention takes no mask (ViT's) rows can do less
        return
    told = {method: next((can for can, names in by.items() if family in names), "") for method, by in FOUND.items()}
    assert found == told


def test_every_method_runs_somewhere() -> None:
    assert list(FOUND) == list(METHODS)
    for method, by_outcome in FOUND.items():
        assert any("peft" in outcome.split() or "adapterhub" in outcome.split() for outcome in by_outcome), method
        assert sorted(family for families in by_outcome.values() for family in families) == FAMILY_NAMES


def test_readme_has_the_table() -> None:
    readme = README.read_text("utf-8")
    assert "| `pfeiffer` |" in readme
    assert in_readme(readme, FOUND, json.loads(PEERS.read_text("utf-8"))) == readme
    assert text_of(FOUND) == OURS.read_text("utf-8")


def test_outcomes_are_grouped_with_their_families() -> None:
    assert grouped({"a": "x", "b": "y", "c": "x"}) == {"x": ["a", "c"], "y": ["b"]}
