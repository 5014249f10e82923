"""Rows of different adapters in one product: from the second pass on, and always what they are one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adpm
from adpm.runtime.grouped import GroupedBottlenecks, GroupedLowRanks
from tests.runtime.models import inputs, make, randomise

KINDS: dict[str, list[dict[str, Any]]] = {
    "peft": [
        {"config": "peft_lora", "target_modules": ["query", "value", "output.dense"], "r": rank, "lora_alpha": 5}
        for rank in (4, 2, 7)
    ],
    "adapterhub": [{"config": "lora", "r": rank, "alpha": 3, "output_lora": True} for rank in (4, 2, 7)],
    "pfeiffer": [{"config": "pfeiffer", "reduction_factor": 8}, {"config": "pfeiffer"}, {"config": "pfeiffer"}],
    "scaled": [
        {"config": "pfeiffer", "scaling": "learned"},
        {"config": "pfeiffer", "scaling": "channel"},
        {"config": "pfeiffer", "scaling": 2.5},
    ],
}
ROWS: dict[str, list[str | None]] = {
    "alike": ["a", "b", "c"],
    "in turns": ["c", "a", "b", "b", "c", "a"],
    "uneven": ["a", "b", "a", "a", "c"],
    "with the base": [None, "b", "a", None],
    "one": ["a", None, "a"],
}


def with_three(kind: str) -> Any:
    model = make()
    handle = adpm.attach(model)
    for seed, (name, settings) in enumerate(zip("abc", KINDS[kind], strict=True)):
        handle.add(name, **settings)
        randomise(handle, name, seed + 5)
    return model


def states(model: Any, rows: int, tokens: int = 9) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(rows, tokens))[0]
    return found


def groups(model: Any) -> list[GroupedLowRanks | GroupedBottlenecks]:
    """What groups rows in the active plan."""
    calls = model.adpm._hooks.current().points.values()
    inner = [change for call in calls for change in (call, *getattr(call, "changes", ()))]
    found = [getattr(call, "grouped", None) for call in inner]
    return [group for group in found if group is not None]


@pytest.mark.parametrize("tokens", [9, 20])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_what_its_adapter_makes_of_it(kind: str, rows: str, tokens: int) -> None:
    model, names = with_three(kind), ROWS[rows]
    alone = {}
    for name in dict.fromkeys(names):
        with model.adpm.using(name):
            alone[name] = states(model, len(names), tokens)
    expected = torch.stack([alone[name][row] for row, name in enumerate(names)])
    model.adpm.activate(rows=names)
    for _ in range(3):
        assert torch.allclose(states(model, len(names), tokens), expected, atol=2e-5)
    stacked = [group._stacked is not None for group in groups(model)]
    if rows == "one":
        assert stacked == []
    else:
        assert stacked
        assert all(stacked) == (tokens <= 16 or rows in ("alike", "in turns"))


@pytest.mark.parametrize("composition", ["batch(a: 1, b: 3, c: 2)", "batch(b: 2, a: 2, c: 2)", "parallel(a, b, c)"])
@pytest.mark.parametrize("kind", ["peft", "pfeiffer"])
def test_so_do_the_other_ways_to_divide_a_batch(kind: str, composition: str) -> None:
    model = with_three(kind)
    model.adpm.activate(composition)
    first = states(model, 6)
    for _ in range(2):
        assert torch.allclose(states(model, 6), first, atol=2e-5)
    assert all(group._stacked is not None for group in groups(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_weight_counts_at_once(kind: str) -> None:
    model = with_three(kind)
    model.adpm.activate(rows=["a", "b", "c"])
    before = [states(model, 3) for _ in range(3)][-1]
    with torch.no_grad():
        for parameter in model.adpm.adapters["b"].parameters():
            parameter.add_(0.3)
    found = states(model, 3)
    assert torch.allclose(found[0], before[0], atol=2e-5)
    assert not torch.allclose(found[1], before[1], atol=1e-3)
    for _ in range(2):
        assert torch.allclose(states(model, 3), found, atol=2e-5)


def test_what_is_trained_is_not_stacked() -> None:
    model = with_three("peft")
    handle = model.adpm
    handle.activate(rows=["a", "b", "c"])
    for parameter in handle.parameters():
        parameter.requires_grad_(True)
    for _ in range(2):
        model(**inputs(3, 9))[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in handle.parameters())
    assert all(group._stacked is None for group in groups(model))
