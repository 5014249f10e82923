"""Weights of adapters added up, and written into the base and taken back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adpm
from adpm.errors import AdapterError, UsageError
from adpm.runtime.arithmetic import Rule, factors
from adpm.runtime.methods.low_rank import PAIR
from tests.parity.peers.peer import peer
from tests.runtime.models import FAMILIES, inputs, make, outputs, randomise

LORA = {"config": "peft_lora", "target_modules": ["query", "value", "q_lin", "v_lin"], "r": 4, "lora_alpha": 6}


def with_loras(family: str = "bert", **changes: Any) -> Any:
    model = make(family)
    handle = adpm.attach(model)
    for name in ("a", "b"):
        handle.add(name, **{**LORA, **changes})
        randomise(handle, name, ord(name))
    return model


def states(model: Any, composition: Any) -> torch.Tensor:
    with model.adpm.using(composition), torch.no_grad():
        out: torch.Tensor = model(**inputs())[0]
    return out


def deltas(model: Any, name: str) -> dict[str, torch.Tensor]:
    parts: Any = model.adpm.adapters[name].parts
    return {key: (part["B"] @ part["A"]).detach() * part.options.scale for key, part in parts.items()}


@pytest.mark.parametrize("method", ["svd", "cat"])
def test_svd_and_cat_are_exact(method: str) -> None:
    model = with_loras()
    handle = model.adpm
    settings = {"rank": 8} if method == "svd" else {}
    handle.combine("m", {"a": 0.7, "b": -0.4}, method, **settings)
    one, two, found = deltas(model, "a"), deltas(model, "b"), deltas(model, "m")
    for key, value in found.items():
        assert torch.allclose(value, 0.7 * one[key] - 0.4 * two[key], atol=1e-5)
    assert torch.allclose(states(model, "average(a: 1, b: 1)"), states(model, "average(b: 1, a: 1)"), atol=1e-5)
    handle.combine("both", {"a": 0.5, "b": 0.5}, method, **settings)
    assert torch.allclose(states(model, "both"), states(model, "average(a: 1, b: 1)"), atol=2e-5)


def test_negation_undoes() -> None:
    model = with_loras()
    model.adpm.combine("minus", {"a": -1.0}, "linear")
    assert torch.allclose(states(model, "stack(a, minus)"), states(model, None), atol=1e-5)
    hub = make()
    handle = adpm.attach(hub)
    handle.add("a", "lora")
    randomise(handle, "a")
    handle.combine("minus", {"a": -2.0}, "negate_b")
    one, two = (handle.adapters[name].state_dict() for name in ("a", "minus"))
    assert all(torch.allclose(two[key], (2 if key.endswith("A") else -2) * value) for key, value in one.items())
    assert all(torch.allclose(value, -4 * deltas(hub, "a")[key]) for key, value in deltas(hub, "minus").items())


@pytest.mark.parametrize("config", ["pfeiffer+inv", "houlsby", "par_bn", "lora", "ia3", "dora"])
def test_average_is_the_mean_of_every_tensor(config: str) -> None:
    model = make()
    handle = adpm.attach(model)
    for name in ("a", "b"):
        handle.add(name, config, head=2)
        randomise(handle, name, ord(name))
    handle.combine("m", {"a": 1, "b": 3})
    one, two, found = (handle.adapters[name].state_dict() for name in ("a", "b", "m"))
    assert set(found) == {key for key in one if not key.startswith("head/")}
    assert all(torch.allclose(value, 0.25 * one[key] + 0.75 * two[key], atol=1e-6) for key, value in found.items())


def test_rules() -> None:
    one, two = torch.tensor([3.0, -1.0, 0.5, -4.0]), torch.tensor([-1.0, -2.0, 4.0, 3.0])
    assert Rule("linear").merge([one, two], [2.0, 1.0]).tolist() == [5.0, -4.0, 5.0, -5.0]
    assert Rule("magnitude_prune", 0.5).merge([one, two], [1.0, 1.0]).tolist() == [3.0, 0.0, 4.0, -1.0]
    # kept: (3, ., ., -4) and (., ., 4, 3); elected: +, +, +, -; the mean of those that agree
    assert Rule("ties", 0.5).merge([one, two], [1.0, 1.0]).tolist() == [3.0, 0.0, 4.0, -4.0]
    assert Rule("ties").merge([one, two], [1.0, 1.0]).tolist() == [3.0, -1.5, 2.25, -4.0]
    generator = torch.Generator().manual_seed(0)
    values = torch.ones(20_000)
    found = Rule("dare_linear", 0.25, generator=generator).merge([values], [1.0])
    assert set(found.tolist()) == {0.0, 4.0}
    assert abs(found.mean().item() - 1) < 0.05
    matrix = torch.randn(6, 9, generator=generator)
    a, b = factors(matrix, 6)
    assert torch.allclose(b @ a, matrix, atol=1e-5)
    a, b = factors(matrix, 12)
    assert a.shape == (12, 9)
    assert torch.allclose(b @ a, matrix, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "method", "settings"),
    [
        ({"a": 1, "b": 1}, "stew", {}),
        ({}, "linear", {}),
        ({"a": 1, "b": -1}, "average", {}),
        ({"a": float("nan")}, "linear", {}),
        ({"a": 1, "c": 1}, "linear", {}),
        ({"a": 1, "c": 1}, "svd", {}),
        ({"a": 1, "d": 1}, "linear", {}),
        ({"a": 1, "b": 1}, "ties", {"density": 0.0}),
        ({"a": 1, "b": 1}, "ties", {"majority": "most"}),
        ({"a": 1, "b": 1}, "linear", {"rank": 3}),
        ({"c": 1}, "ties", {}),
    ],
)
def test_what_can_not_be_combined(weights: dict[str, float], method: str, settings: dict[str, Any]) -> None:
    model = with_loras()
    model.adpm.add("c", "pfeiffer")
    model.adpm.add("d", **{**LORA, "r": 2})
    names = model.adpm.names
    with pytest.raises(UsageError) as error:
        model.adpm.combine("m", weights, method, **settings)
    assert error.value.code == "merge-invalid"
    assert model.adpm.names == names


MERGED: dict[str, dict[str, Any]] = {
    "lora": {"config": "lora", "intermediate_lora": True, "output_lora": True},
    "dora": {"config": "dora"},
    "vera": {"config": "vera"},
    "ia3": {"config": "ia3"},
    "peft": {**LORA, "use_rslora": True},
    "peft-dora": {**LORA, "use_dora": True, "bias": "all"},
    "saved": {**LORA, "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"},
    "peft-oft": {"config": "peft_oft", "target_modules": ["query", "q_lin"]},
    "peft-ia3": {"config": "peft_ia3", "target_modules": ["key", "k_lin"], "feedforward_modules": []},
}


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("method", MERGED)
def test_merged_is_active_and_unload_gives_the_base_back(method: str, family: str) -> None:
    model = make(family, head=True)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    handle = adpm.attach(model)
    handle.add("x", **MERGED[method])
    randomise(handle, "x")
    handle.activate("x")
    expected, bare = outputs(model), None
    handle.merge("x")
    assert handle.active is None
    assert handle.merged == "x"
    found = outputs(model)
    assert all(torch.allclose(found[key], value, atol=5e-5) for key, value in expected.items())
    with pytest.raises(UsageError, match="merged already"):
        handle.merge("x")
    handle.unmerge()
    bare = outputs(model)
    assert any(not torch.allclose(bare[key], value, atol=1e-3) for key, value in expected.items())
    handle.merge("x")
    handle.unload()
    after = model.state_dict()
    assert after.keys() == base.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in base.items())


def test_what_can_not_be_merged_changes_nothing() -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    handle = adpm.attach(model)
    handle.add("pf", "pfeiffer")
    handle.add("gated", "lora", use_gating=True)
    handle.add("headed", "lora", head=2)
    for name in handle.names:
        with pytest.raises(AdapterError):
            handle.merge(name)
        assert handle.merged is None
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_merge_of_directories(tmp_path: Path) -> None:
    model = with_loras()
    for name in ("a", "b"):
        model.adpm.save(name, tmp_path / name)
    expected = states(model, "average(a: 1, b: 3)")
    model.adpm.unload()
    adpm.merge(model, {tmp_path / "a": 0.25, str(tmp_path / "b"): 0.75}, tmp_path / "m", "cat")
    assert not hasattr(model, "adpm")
    handle = adpm.attach(model)
    handle.read(tmp_path / "m", name="m")
    assert torch.allclose(states(model, "m"), expected, atol=2e-5)
    adpm.merge(model, {tmp_path / "a": 1}, tmp_path / "again", "linear")
    assert handle.names == ("m",)


PEER = """
import json, sys
import torch
from peft import PeftModel
from peft.tuners.lora import model as lora
from transformers import BertModel
root = sys.argv[1]
model = PeftModel.from_pretrained(BertModel.from_pretrained(root + "/base"), root + "/a", adapter_name="a")
for name in "bcd":
    model.load_adapter(f"{root}/{name}", adapter_name=name)
lora._freeze_adapter = lambda *_: torch.manual_seed(5)  # behind the new adapter's start, before the first draw
for name, weights, method, more in json.loads(sys.argv[2]):
    model.add_weighted_adapter(list(weights), list(weights.values()), name, combination_type=method, **more)
    model.save_pretrained(root + "/peer", selected_adapters=[name])
"""
TWO = {"a": 0.7, "b": -0.4}
THREE = {**TWO, "c": 1.3}
PRUNED = ("ties", "magnitude_prune", "dare_linear", "dare_ties")
# Weights, the method, and what adpm and the peer call its settings; "d" has another rank and other layers.
WEIGHED: dict[str, tuple[dict[str, float], str, dict[str, Any], dict[str, Any]]] = {
    **{method: (THREE, method, {}, {}) for method in ("linear", "svd", "cat")},
    **{f"{method}-of-others": ({**TWO, "d": 0.9}, method, {}, {}) for method in ("svd", "cat")},
    "svd-of-rank": (TWO, "svd", {"rank": 2}, {"svd_rank": 2}),
    **{
        f"{method}{svd}-{sign}": (
            THREE,
            method + svd,
            {"density": 0.6, "majority": sign},
            {"density": 0.6, "majority_sign_method": sign},
        )
        for method in PRUNED
        for svd in ("", "_svd")
        for sign in ("total", "frequency")
    },
}


@pytest.mark.slow
def test_peft_gives_the_same(tmp_path: Path) -> None:
    """By value, the random ways too, which draw in the same order."""
    python = peer("ADPM_PEFT_PYTHON")
    model = with_loras()
    handle = model.adpm
    handle.add("c", **LORA)
    handle.add("d", **{**LORA, "target_modules": ["query", "key"], "r": 2, "use_rslora": True})
    for name in ("a", "b", "c", "d"):
        randomise(handle, name, ord(name))
        handle.save(name, tmp_path / name)
    found, jobs = {}, []
    for name, (weights, method, ours, theirs) in WEIGHED.items():
        torch.manual_seed(5)
        handle.combine(name, weights, method, **ours)
        found[name] = deltas(model, name)
        jobs.append((name, weights, method, theirs))
    handle.unload()
    model.save_pretrained(tmp_path / "base")
    done = subprocess.run([python, "-c", PEER, tmp_path, json.dumps(jobs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, layers in found.items():
        tensors = load_file(tmp_path / "peer" / name / "adapter_model.safetensors")
        assert len(tensors) == 2 * len(layers)
        for key, value in layers.items():
            path = "base_model.model." + key.replace("/", ".")
            made = tensors[f"{path}.lora_B.weight"] @ tensors[f"{path}.lora_A.weight"]
            assert torch.allclose(value, made, atol=1e-5), (name, key)


DARE = """
import sys
import torch
from peft.utils.merge_utils import dare_linear, dare_ties
from safetensors.torch import load_file, save_file
given = load_file(sys.argv[1])
weights, out = torch.tensor([0.7, -0.4]), {}
for name, method in (("dare_linear", dare_linear), ("dare_ties", dare_ties)):
    made = []
    for seed in range(400):
        torch.manual_seed(seed)
        made.append(method([given["a"].clone(), given["b"].clone()], weights, 0.6))
    out[name] = torch.stack(made)
save_file(out, sys.argv[2])
"""


@pytest.mark.slow
def test_peft_drops_as_many_at_random(tmp_path: Path) -> None:
    """Place by place the same mean, the same spread and the same share of zeros over 400 draws."""
    generator = torch.Generator().manual_seed(0)
    given = {name: torch.randn(6, 5, generator=generator) for name in ("a", "b")}
    save_file(given, tmp_path / "given.safetensors")
    files = (tmp_path / "given.safetensors", tmp_path / "peer.safetensors")
    done = subprocess.run([peer("ADPM_PEFT_PYTHON"), "-c", DARE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for method, theirs in load_file(tmp_path / "peer.safetensors").items():
        rule = Rule(method, density=0.6, generator=generator)
        ours = torch.stack([rule.merge([given["a"], given["b"]], [0.7, -0.4]) for _ in range(400)])
        spread = theirs.std(0)
        assert (ours.mean(0) - theirs.mean(0)).abs().le(5 * spread * (2 / 400) ** 0.5 + 1e-6).all(), method
        assert torch.allclose(ours.std(0), spread, rtol=0.25, atol=1e-6), method
        zeros = [made.eq(0).double().mean(0) for made in (ours, theirs)]
        assert (zeros[0] - zeros[1]).abs().le(0.17).all(), method


AVERAGE = """
import json, sys
from adapters import BertAdapterModel
root = sys.argv[1]
for case, strategy, more in json.loads(sys.argv[2]):
    model = BertAdapterModel.from_pretrained(root + "/base")
    for name in ("a", "b"):
        model.load_adapter(f"{root}/{case}/{name}", load_as=name, use_safetensors=True)
    weights = json.loads(sys.argv[3])
    model.average_adapter("m", list(weights), list(weights.values()), combine_strategy=strategy, **more)
    model.save_adapter(f"{root}/{case}/{strategy}", "m")
"""
LINEAR = {"linear": "linear"}
# What is added up, the peer's strategies for it, and adpm's word for each.
AVERAGED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "pfeiffer": ({"config": "pfeiffer", "scaling": "learned"}, LINEAR),
    "norms": ({"config": "houlsby", "ln_before": True, "ln_after": True, "non_linearity": "prelu"}, LINEAR),
    "gates": ({"config": "scaled_par_bn", "scaling": "channel", "use_gating": True}, LINEAR),
    "compacter": ({"config": "compacter", "reduction_factor": 4}, LINEAR),
    "prefix": ({"config": "prefix_tuning_flat", "prefix_length": 4, "use_gating": True}, LINEAR),
    "prefix-net": ({"config": "prefix_tuning", "prefix_length": 4, "bottleneck_size": 8}, LINEAR),
    "prompt": ({"config": "prompt_tuning", "prompt_length": 4}, LINEAR),
    "union": ({"config": "unipelt"}, LINEAR),
    "ia3": ({"config": "ia3"}, LINEAR),
    "dora": ({"config": "dora"}, LINEAR),
    "gated-lora": ({"config": "lora", "use_gating": True}, LINEAR),
    "loreft": ({"config": "loreft"}, LINEAR),
    "lora": (
        {"config": "lora", "r": 4, "alpha": 4},
        {"linear": "linear", "lora_linear_only_negate_b": "negate_b", "lora_delta_w_svd": "svd"},
    ),
}


def averages(
    directory: Path,
    averaged: dict[str, tuple[dict[str, Any], dict[str, str]]],
    weights: dict[str, float],
    *,
    normalised: bool = False,
) -> Iterator[tuple[str, str, dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Each case and strategy of ``averaged`` with the tensors that adpm makes and the peer's."""
    total = sum(weights.values()) if normalised else 1.0
    jobs = []
    for case, (settings, strategies) in averaged.items():
        model = make()
        handle = adpm.attach(model)
        for name in weights:
            handle.add(name, **settings)
            randomise(handle, name, ord(name))
            pair = {key: value for key, value in handle.adapters["a"].state_dict().items() if key.startswith(PAIR)}
            handle.adapters[name].load_state_dict(pair, strict=False)
            handle.save(name, directory / case / name)
        for strategy, method in strategies.items():
            more: dict[str, Any] = {} if method != "svd" else {"rank": 6}
            handle.combine(strategy, {name: weight / total for name, weight in weights.items()}, method, **more)
            handle.save(strategy, directory / case / f"ours-{strategy}")
            jobs.append((case, strategy, {"normalize_weights": normalised} | ({"svd_rank": 6} if more else {})))
        handle.unload()
        model.save_pretrained(directory / "base")
    command = [peer("ADPM_ADAPTERHUB_PYTHON"), "-c", AVERAGE, directory, json.dumps(jobs), json.dumps(weights)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for case, strategy, _ in jobs:
        theirs = torch.load(directory / case / strategy / "pytorch_adapter.bin")
        found = load_file(directory / case / f"ours-{strategy}" / "adapter.safetensors")
        yield case, strategy, {key.replace(f".{strategy}.", ".m."): value for key, value in found.items()}, theirs


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [False, True])
def test_adapterhub_gives_the_same(tmp_path: Path, *, normalised: bool) -> None:
    weights = {"a": 0.7, "b": 0.6 if normalised else -0.4}
    for _, strategy, ours, theirs in averages(tmp_path, AVERAGED, weights, normalised=normalised):
        assert ours.keys() <= theirs.keys()  # the peer writes shared tensors once a layer
        for key, value in ours.items():
            if strategy != "lora_delta_w_svd":
                assert torch.allclose(value, theirs[key], atol=1e-6), key
            elif key.endswith("lora_B"):
                other = key.removesuffix("B") + "A"
                assert torch.allclose(value @ ours[other], theirs[key] @ theirs[other], atol=1e-5), key


@pytest.mark.slow
def test_what_adapterhub_s_averages_leave_out(tmp_path: Path) -> None:
    """What decision 0017 says of the peer: it makes no invertible block, scales VeRA's pair and not LoRA's products."""
    weights = {"a": 0.7, "b": -0.4}
    cases: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "inverse": ({"config": "pfeiffer+inv"}, LINEAR),
        "vera": ({"config": "vera"}, LINEAR),
        "lora": ({"config": "lora", "r": 4, "alpha": 8}, {"lora_delta_w_svd": "svd"}),
    }
    for case, _, ours, theirs in averages(tmp_path, cases, weights):
        blocks = {key for key in ours if "invertible_adapters" in key}
        assert theirs.keys() == ours.keys() - blocks
        assert bool(blocks) == (case == "inverse")
        for key, made in theirs.items():
            if case != "lora":
                expected = ours[key] * sum(weights.values()) if "shared_parameters" in key else ours[key]
                assert torch.allclose(made, expected, atol=1e-6), key
            elif key.endswith("lora_B"):
                other = key.removesuffix("B") + "A"
                assert torch.allclose(made @ theirs[other] * 2, ours[key] @ ours[other], atol=1e-5), key
    unshared = {"unshared": ({"config": "compacter", "reduction_factor": 4, "shared_phm_rule": False}, LINEAR)}
    with pytest.raises(AssertionError, match="not found in shared parameters"):
        list(averages(tmp_path / "unshared", unshared, weights))


def test_families_merge() -> None:
    for family in FAMILIES:
        model = with_loras(family)
        expected = states(model, "a")
        model.adpm.merge("a")
        assert torch.allclose(states(model, None), expected, atol=5e-5)
