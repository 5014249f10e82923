"""Outputs equal the peers': one test a fixture and form of its weights; what adpm does not run is skipped by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from adpm.errors import AdpmError
from adpm.formats.pickles import unpickle
from adpm.runtime import read
from adpm.runtime.adapters import Adapters, attach
from adpm.runtime.read import read_directory
from adpm.runtime.weights import Buffer
from tests.parity.corpus import ROOT, Case, cases
from tests.parity.peer_average import divide_again
from tests.parity.peers.small import tensors_of

UNSUPPORTED = {"method-unsupported", "family-unsupported", "composition-unsupported"}
CASES = list(cases())

pytestmark = [
    pytest.mark.skipif(not CASES, reason=f"no parity corpus in {ROOT}"),
    pytest.mark.filterwarnings(
        "ignore:.torch.jit.script:DeprecationWarning"
    ),  # what DeBERTa's module does when imported
]


@pytest.fixture(scope="session")
def pickles() -> dict[bytes, bytes]:
    """All pickles of the corpus, converted in one process; the tests of conversion itself are elsewhere."""
    found: dict[str, Buffer] = {}
    for path in sorted(ROOT.glob("adapters-*/**/*.bin")):
        found[str(path)] = path.read_bytes()
    converted = unpickle(found, source=str(ROOT))
    return {bytes(found[name]): data for name, data in converted.items()}


@pytest.fixture(autouse=True)
def one_process(pickles: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def converted(files: dict[str, Buffer], *, source: str) -> dict[str, bytes]:
        return {name: pickles[bytes(data)] for name, data in files.items()}

    monkeypatch.setattr(read, "unpickle", converted)


def base_of(case: Case) -> nn.Module:
    meta = case.meta
    load = getattr(transformers, meta["base_class"]).from_pretrained
    try:
        model: nn.Module = load(ROOT / meta["base"], attn_implementation=meta["attn_implementation"])
    except ValueError:  # transformers 4.57 has no SDPA for every family; what it computes is the same
        model = load(ROOT / meta["base"], attn_implementation="eager")
    return model.eval()


def read_all(handle: Adapters, case: Case) -> None:
    for name, directories in case.directories().items():
        files: dict[str, Buffer] = {}
        for directory in directories:
            files |= read_directory(directory)
        handle.read_files(files, name, source=case.id)
    for directory in case.fusions():
        handle.read_fusion(directory)


def outputs_of(model: nn.Module, case: Case, *, bare: bool = False) -> dict[str, torch.Tensor]:
    """``bare``: without what heads alone are given, which is no argument of a base of transformers 4."""
    inputs = load_file(case.directory / "inputs.safetensors")
    if bare:
        inputs.pop("word_starts", None)
    kwargs: dict[str, Any] = {"output_hidden_states": True, **case.forward_kwargs}
    with torch.no_grad():
        out = model(**inputs, **kwargs)
    found = tensors_of(out)
    for number, head in enumerate(out.get("head_outputs") or ()):
        found |= tensors_of(head, f"head{number}.")
    return found


def compare(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert expected
    for key, value in expected.items():
        assert key in found, f"{key} is missing"
        assert found[key].shape == value.shape, key
        difference = (found[key] - value).abs().max().item()
        assert difference <= tolerance, f"{key} differs by {difference}"


def close(found: torch.Tensor | None, expected: torch.Tensor, tolerance: float) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= tolerance)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_parity(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    if case.divides_again:
        divide_again(monkeypatch, scales=case.scales)
    model = base_of(case)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = load_file(case.directory / "expected.safetensors")
    bare = {key.removeprefix("base."): value for key, value in expected.items() if key.startswith("base.")}
    adapted = {key: value for key, value in expected.items() if not key.startswith("base.")}
    tolerance = case.meta["tolerance_abs"]
    if case.meta.get("bases_may_differ"):
        found = outputs_of(model, case, bare=True)
        moved = {key for key, value in bare.items() if not close(found.get(key), value, tolerance)}
        if "last_hidden_state" in moved:  # what a head makes of it moves, too
            adapted = {key: value for key, value in adapted.items() if key in bare}
        bare = {key: value for key, value in bare.items() if key not in moved}
        adapted = {key: value for key, value in adapted.items() if key not in moved}
        if not adapted:
            pytest.skip(f"the bare base gives other outputs on transformers {transformers.__version__}")
    try:
        handle = attach(model)
        read_all(handle, case)
        handle.activate(case.composition())
    except AdpmError as error:
        if error.code in UNSUPPORTED and not case.in_scope():
            pytest.skip(f"not yet supported: {error}")
        raise
    compare(outputs_of(model, case), adapted, tolerance)
    labels = case.meta.get("labels")
    if labels is not None:
        config: Any = model.config
        assert config.label2id == labels
        assert config.id2label == {number: label for label, number in labels.items()}
    with handle.disabled():
        compare(outputs_of(model, case, bare=True), bare, tolerance)
    compare(outputs_of(model, case), adapted, tolerance)
    handle.unload()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    compare(outputs_of(model, case, bare=True), bare, tolerance)


def test_scope_is_not_empty() -> None:
    """The corpus has cases that must pass, so an empty run is no success."""
    assert any(case.in_scope() for case in CASES)
    assert all(Path(case.directory).is_dir() for case in CASES)
