"""What is refused when locking and what is refused when activating are the same: two judges of one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import adpm
from adpm.core.composition import parse_composition
from adpm.core.mixing import Member, check_mixing
from adpm.core.release import Method
from adpm.errors import CompositionError

KINDS = {
    "pfeiffer": "bottleneck",
    "lora": "lora",
    "ia3": "ia3",
    "prefix_tuning": "prefix_tuning",
    "prompt_tuning": "prompt_tuning",
    "loreft": "reft",
}
OPERATORS = (
    *("stack(a, b)", "stack(b, a)", "parallel(a, b)", "batch(a: 1, b: 1)", "split(a: 2, b: 4)"),
    *("average(a: 1, b: 2)", "skip(a: 0)", "stack(skip(a: 0), b)", "stack(parallel(a, c), b)", "stack(a, b, a)"),
)


def model() -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100
    )
    made: Any = BertModel(config)
    return made.eval()


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_lock_and_runtime_agree(first: str, second: str) -> None:
    adapters = adpm.attach(model())
    kinds = {"a": first, "b": second, "c": "pfeiffer"}
    for name, kind in kinds.items():
        adapters.add(name, kind)
    members = {name: Member(Method("adapterhub", KINDS[kind])) for name, kind in kinds.items()}
    for text in OPERATORS:
        composition = parse_composition(text)
        locking = _refusal(lambda: check_mixing(composition, members.__getitem__, what="compose.x"))  # noqa: B023
        running = _refusal(lambda: adapters.activate(text))  # noqa: B023
        assert (locking, running) in {(None, None), ("composition-method", "composition-unsupported")}, text


def _refusal(act: Callable[[], object]) -> str | None:
    try:
        act()
    except CompositionError as error:
        return error.code
    return None
