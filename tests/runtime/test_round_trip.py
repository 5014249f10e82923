"""What adpm saves it reads back bit for bit, in either format, and so do the peers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import adpm
from adpm.errors import AdapterError, UsageError
from tests.parity.peers.peer import peer
from tests.parity.peers.small import SMALL, head_inputs, model_inputs, tensors_of
from tests.parity.peers.small import randomise as shake
from tests.runtime.models import FAMILIES, inputs, make, outputs, randomise
from tests.runtime.test_heads import HEADS

PEERS = Path(__file__).parents[1] / "parity" / "peers"
# Settings by a short name: what `add` is given.
METHODS: dict[str, dict[str, Any]] = {
    "pfeiffer": {"config": "pfeiffer", "reduction_factor": 8},
    "houlsby": {"config": "houlsby", "non_linearity": "prelu"},
    "norms": {"config": "houlsby", "ln_before": True, "ln_after": True, "original_ln_after": False},
    "by-layer": {"config": "pfeiffer", "reduction_factor": {"0": 2, "default": 8}, "leave_out": [2]},
    "parallel": {"config": "scaled_par_bn", "use_gating": True},
    "channels": {"config": "pfeiffer", "scaling": "channel", "non_linearity": "xielu"},
    "nice": {"config": "pfeiffer+inv"},
    "glow": {"config": "pfeiffer", "inv_adapter": "glow", "inv_adapter_reduction_factor": 2},
    "compacter": {"config": "compacter", "reduction_factor": 4},
    "all-shared": {"config": "compacter++", "reduction_factor": 4, "shared_W_phm": True, "factorized_phm_rule": True},
    "lora": {"config": "lora", "r": 4, "alpha": 16, "intermediate_lora": True, "leave_out": [1]},
    "gated-lora": {"config": "lora", "use_gating": True},
    "dora": {"config": "dora", "r": 2},
    "vera": {"config": "vera", "r": 2},
    "dvora": {"config": "dvora", "r": 2},
    "ia3": {"config": "ia3"},
    "head": {"config": "pfeiffer", "head": {"num_labels": 4, "layers": 3, "activation_function": "relu"}},
    "labels": {"config": "pfeiffer", "head": {"num_labels": 2, "label2id": {"no": 0, "yes": 1}, "bias": False}},
}
PEFT_METHODS: dict[str, dict[str, Any]] = {
    "all-linear": {
        "target_modules": "all-linear",
        "task_type": "SEQ_CLS",
        "modules_to_save": ["classifier"],
        "exclude_modules": ["pre_classifier"],
    },
    "regex": {"target_modules": r".*layer\.[01].*(query|q_lin|value|v_lin)", "use_rslora": True, "lora_alpha": 3},
    "dora": {"target_modules": ["query", "q_lin"], "use_dora": True, "bias": "all"},
    "patterns": {
        "target_modules": ["query", "q_lin", "value", "v_lin"],
        "rank_pattern": {"value": 2, "v_lin": 2},
        "alpha_pattern": {"layer.1.*": 5},
        "layers_to_transform": [0, 1],
        "lora_bias": True,
        "bias": "lora_only",
    },
}


def check_round_trip(family: str, head: bool, directory: Path, settings: dict[str, Any], **save: Any) -> None:
    model = make(family, head=head)
    handle = adpm.attach(model)
    handle.add("x", **settings)
    randomise(handle, "x")
    handle.activate("x")
    expected = outputs(model)
    handle.save("x", directory, **save)
    other = make(family, head=head)
    again = adpm.attach(other)
    again.read(directory, name="y")
    again.activate("y")
    found = outputs(other)
    assert found.keys() == expected.keys()
    for key, value in expected.items():  # where a weight lies in memory decides the last bit of a product
        assert torch.allclose(found[key], value, atol=1e-6), key
    ours, theirs = handle.adapters["x"].state_dict(), again.adapters["y"].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_adapterhub(method: str, family: str, tmp_path: Path) -> None:
    check_round_trip(family, False, tmp_path, METHODS[method])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", PEFT_METHODS)
def test_peft(method: str, family: str, tmp_path: Path) -> None:
    check_round_trip(family, True, tmp_path, {"config": "peft_lora", **PEFT_METHODS[method]})


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    model = make()
    handle = adpm.attach(model)
    handle.add("x", "houlsby", head=2)
    for directory in ("first", "second"):
        handle.save("x", tmp_path / directory)
    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    assert set(first) == {"adapter_config.json", "adapter.safetensors", "head_config.json", "model_head.safetensors"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", [False, True])
def test_lora_goes_both_ways(family: str, head: bool, tmp_path: Path) -> None:
    """AdapterHub's LoRA written as PEFT's and back has the same weights and gives the same outputs."""
    model = make(family, head=head)
    handle = adpm.attach(model)
    handle.add("x", "lora", r=4, alpha=12, output_lora=True, leave_out=[1])
    randomise(handle, "x")
    handle.save("x", tmp_path / "peft", format="peft")
    handle.read(tmp_path / "peft", name="y")
    handle.save("y", tmp_path / "hub", format="adapterhub")
    handle.read(tmp_path / "hub", name="z")
    found = []
    for name in ("x", "y", "z"):
        with handle.using(name):
            found.append(outputs(model))
    for key, value in found[0].items():
        assert torch.allclose(found[1][key], value, atol=1e-5), key
        assert torch.allclose(found[2][key], value, atol=1e-6), key
    first, last = handle.adapters["x"].state_dict(), handle.adapters["z"].state_dict()
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama", "bart"])
def test_ia3_goes_both_ways(family: str, tmp_path: Path) -> None:
    check_both_ways(family, tmp_path, "ia3", leave_out=[1])


@pytest.mark.parametrize("family", ["bert", "distilbert", "t5"])
def test_peft_s_vera_goes_both_ways(family: str, tmp_path: Path) -> None:
    target = {"bert": "query", "distilbert": "q_lin", "t5": "q"}[family]
    check_both_ways(family, tmp_path, "peft_vera", target_modules=[target], r=4)


def test_vera_goes_to_peft_where_its_matrices_are_diagonal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    handle = adpm.attach(make())
    handle.add("x", "vera", r=4, alpha=8)
    randomise(handle, "x")
    with pytest.raises(AdapterError, match="whole matrices"):
        handle.save("x", tmp_path, format="peft")
    make_diagonal(handle)
    handle.save("x", tmp_path, format="peft")
    handle.read(tmp_path, name="y")
    found = []
    for name in ("x", "y"):
        with handle.using(name):
            found.append(outputs(handle.model))
    for key, value in found[0].items():
        assert torch.allclose(found[1][key], value, atol=1e-5), key


def make_diagonal(handle: Any) -> None:
    """Leave what stands on the diagonals of the VeRA called ``x``."""
    for name, tensor in handle.adapters["x"].named_parameters():
        if name.endswith(("vera_D", "vera_B")):
            tensor.data = tensor.data.diagonal().diag()


def test_dora_goes_both_ways_where_no_layer_has_a_bias(tmp_path: Path) -> None:
    check_both_ways("llama", tmp_path, "dora", r=4, alpha=4)
    with pytest.raises(AdapterError, match="agree at 1"):
        check_both_ways("llama", tmp_path, "dora", r=4, alpha=8)


def check_both_ways(family: str, directory: Path, method: str, **settings: Any) -> None:
    """From the method's own format to the other peer's and back: the same outputs, the same weights at the end."""
    torch.manual_seed(0)
    model = SMALL[family].model()
    shake(model, 0.15)
    handle: Any = adpm.attach(model)
    handle.add("x", method, **settings)
    randomise(handle, "x")
    there: Any
    back: Any
    there, back = ("adapterhub", "peft") if method.startswith("peft_") else ("peft", "adapterhub")
    handle.save("x", directory / there, format=there)
    handle.read(directory / there, name="y")
    handle.save("y", directory / back, format=back)
    handle.read(directory / back, name="z")
    found = []
    for name in (None, "x", "y", "z"):
        handle.activate(name)
        with torch.no_grad():
            found.append(tensors_of(model(**model_inputs(SMALL[family].kind))))
    for key, value in found[1].items():
        assert torch.allclose(found[2][key], value, atol=1e-5), key
        assert torch.allclose(found[3][key], value, atol=1e-5), key
    assert any(not torch.allclose(found[0][key], value, atol=1e-3) for key, value in found[1].items())
    first, last = handle.adapters["x"].state_dict(), handle.adapters["z"].state_dict()
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({"config": "prompt_tuning"}, "peft"),
        ({"config": "prefix_tuning_flat"}, "peft"),
        ({"config": "dvora"}, "peft"),
        ({"config": "loreft"}, "peft"),
        ({"config": "peft_prompt_tuning", "num_virtual_tokens": 2}, "adapterhub"),
        ({"config": "peft_prefix_tuning", "num_virtual_tokens": 2}, "adapterhub"),
        ({"config": "peft_vera", "target_modules": ["query", "intermediate.dense"]}, "adapterhub"),
        ({"config": "peft_adalora", "target_modules": ["query"]}, "adapterhub"),
        ({"config": "peft_ia3", "target_modules": ["key"], "feedforward_modules": ["key"]}, "adapterhub"),
        ({"config": "peft_lora", "target_modules": ["query", "word_embeddings"]}, "adapterhub"),
        ({"config": "peft_lora", "target_modules": ["query"], "trainable_token_indices": [3]}, "adapterhub"),
        ({"config": "pfeiffer"}, "peft"),
        ({"config": "dora"}, "peft"),
        ({"config": "lora", "use_gating": True}, "peft"),
        ({"config": "lora", "head": 2}, "peft"),
        ({"config": "peft_lora", "target_modules": ["query"], "use_dora": True}, "adapterhub"),
        ({"config": "peft_lora", "target_modules": ["query"], "bias": "all"}, "adapterhub"),
        ({"config": "peft_lora", "target_modules": ["attention.output.dense"]}, "adapterhub"),
        ({"config": "peft_lora", "target_modules": ["query", "value"], "rank_pattern": {"value": 2}}, "adapterhub"),
    ],
)
def test_what_differs_between_the_peers_is_refused(settings: dict[str, Any], target: Any, tmp_path: Path) -> None:
    handle = adpm.attach(make())
    handle.add("x", **settings)
    with pytest.raises(AdapterError) as error:
        handle.save("x", tmp_path / "out", format=target)
    assert error.value.code == "format-unsupported"
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    handle = adpm.attach(make())
    handle.add("x")
    with pytest.raises(UsageError, match="onnx"):
        handle.save("x", tmp_path, format="onnx")  # type: ignore[arg-type]  # that is what is tested


def write_for_peer(model: Any, directory: Path, given: dict[str, torch.Tensor] | None = None, **save: Any) -> None:
    """What ``reload.py`` wants to see of the adapter ``x`` on ``model``, which is unloaded."""
    handle, given = model.adpm, given or inputs()
    handle.save("x", directory / "adapter", **save)
    handle.activate("x")
    with torch.no_grad():
        out = tensors_of(model(**given, output_hidden_states=True))
    (directory / "labels.json").write_text(json.dumps(getattr(model.config, "label2id", None)), "utf-8")
    save_file(out, directory / "outputs.safetensors")
    save_file(given, directory / "inputs.safetensors")
    handle.unload()
    model.save_pretrained(directory / "base")
    (directory / "base_class.txt").write_text(type(model).__name__, "utf-8")


def check_peer(python: str, directories: list[Path], **most: float) -> None:
    """The peer's outputs with what adpm saved are adpm's, to 1e-5, or to what ``most`` says of a directory."""
    done = subprocess.run([python, PEERS / "reload.py", *directories], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    expected = {directory.name for directory in directories}
    assert expected <= found.keys()
    numbers = {name: float(found[name]) for name in expected if re.match(r"[0-9.e-]+$", found[name])}
    right = {name for name, number in numbers.items() if number <= most.get(name, 1e-5)}
    assert not {name: found[name] for name in expected - right}


@pytest.mark.slow
def test_adapterhub_reads_what_adpm_saves(tmp_path: Path) -> None:
    """All but GLOW, which fails in the peer on any text, and xIELU, which is bfloat16 there."""
    python = peer("ADPM_ADAPTERHUB_PYTHON")
    for family in FAMILIES:
        for method in METHODS.keys() - {"glow", "channels"}:
            model = make(family)
            handle = adpm.attach(model)
            handle.add("x", **METHODS[method])
            randomise(handle, "x")
            write_for_peer(model, tmp_path / f"{family}:{method}")
    more: dict[str, dict[str, Any]] = {
        "ia3": {"config": "peft_ia3", "target_modules": ["key", "value", "intermediate.dense"]},
        "lora": {"config": "peft_lora", "target_modules": ["query", "value"], "lora_alpha": 4},
        "vera": {"config": "peft_vera", "target_modules": ["query", "value"], "r": 4},
    }
    for name, settings in more.items():
        model = make()
        adpm.attach(model).add("x", **settings)
        randomise(model.adpm, "x")
        write_for_peer(model, tmp_path / f"converted:{name}", format="adapterhub")
    check_peer(python, sorted(tmp_path.iterdir()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # what DeBERTa's module does when imported
def test_adapterhub_reads_the_heads_that_adpm_saves(tmp_path: Path) -> None:
    """Of every type on every family that the peer has it on."""
    python = peer("ADPM_ADAPTERHUB_PYTHON")
    listed = subprocess.run([python, PEERS / "make_heads.py", "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        family, kind = name.split(":")
        torch.manual_seed(0)
        model = SMALL[family].model()
        if family == "mt5":  # transformers 5 would write that it is tied, and the peer believe it
            model.config.tie_word_embeddings = False
        shake(model, 0.15)
        head = {"head_type": kind, **HEADS[kind]}
        if "use_pooler" in head:
            head["use_pooler"] = getattr(model, "pooler", None) is not None
        if "num_labels" in head and family in FAMILIES:
            head["label2id"] = {f"is {number}": number for number in range(head["num_labels"])}
        adpm.attach(model).add("x", "pfeiffer", head=head)
        randomise(model.adpm, "x")
        given = head_inputs(SMALL[family].kind, kind, end=getattr(model.config, "eos_token_id", None))
        write_for_peer(model, tmp_path / name, given)
    check_peer(python, sorted(tmp_path.iterdir()))


@pytest.mark.slow
def test_peft_reads_what_adpm_saves(tmp_path: Path) -> None:
    python = peer("ADPM_PEFT_PYTHON")
    converted: dict[str, dict[str, Any]] = {
        "hub-lora": {"config": "lora", "leave_out": [1], "intermediate_lora": True},
        "hub-ia3": {"config": "ia3"},
    }
    methods = {name: {"config": "peft_lora", **settings} for name, settings in PEFT_METHODS.items()} | converted
    for family in FAMILIES:
        for method, settings in methods.items():
            model = make(family, head=True)
            handle = adpm.attach(model)
            handle.add("x", **settings)
            randomise(handle, "x")
            write_for_peer(model, tmp_path / f"{family}:{method}", format="peft")
    torch.manual_seed(0)
    model = SMALL["llama"].model()
    shake(model, 0.15)
    adpm.attach(model).add("x", "dora", r=4, alpha=4)
    randomise(model.adpm, "x")
    write_for_peer(model, tmp_path / "llama:hub-dora", format="peft")
    model = make()
    adpm.attach(model).add("x", "vera", r=4)
    randomise(model.adpm, "x")
    make_diagonal(model.adpm)
    write_for_peer(model, tmp_path / "bert:hub-vera", format="peft")
    check_peer(python, sorted(tmp_path.iterdir()))
