"""What is read and what is refused: every fault by name, in one error, with the model untouched."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import adpm
from adpm.core.base import BaseIdentity, Shape
from adpm.errors import AdapterError, AdpmError, BaseMismatchError, DocumentError, NotFoundError
from adpm.formats.adapterhub_keys import ACTIVATION_WEIGHTS
from adpm.formats.pickles import unpickle
from adpm.runtime.activations import ACTIVATIONS
from adpm.runtime.identity import identify
from adpm.runtime.unpickle import REFUSED, _convert
from tests.parity.peers.small import SMALL, model_inputs
from tests.runtime.models import make, outputs, randomise

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A Pfeiffer adapter with a head, as files."""
    handle = adpm.attach(make())
    handle.add("x", "pfeiffer", head=2)
    randomise(handle, "x")
    handle.save("x", tmp_path / "x")
    return tmp_path / "x"


@pytest.fixture
def peft(tmp_path: Path) -> Path:
    handle = adpm.attach(make(head=True))
    handle.add("x", "peft_lora", target_modules=["query", "value"], modules_to_save=["classifier"])
    randomise(handle, "x")
    handle.save("x", tmp_path / "p")
    return tmp_path / "p"


def change_tensors(path: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def change_config(path: Path, **changes: object) -> None:
    """Set keys of the document, or of the mapping under its ``config``."""
    value = json.loads(path.read_text("utf-8"))
    for key, new in changes.items():
        inner = value.get("config", value)
        (inner if key in inner or key.startswith("new_") else value)[key] = new
    path.write_text(json.dumps(value), "utf-8")


def refusal(directory: Path, model: Any = None, **more: Any) -> AdpmError:
    """The error of reading ``directory``; the model is as before then."""
    model = make() if model is None else model
    before = outputs(model)
    handle = adpm.attach(model)
    with pytest.raises(AdpmError) as error:
        handle.read(directory, name="x", **more)
    assert handle.names == ()
    assert list(handle.parameters()) == []
    found = outputs(model)
    assert all(torch.equal(found[key], value) for key, value in before.items())
    return error.value


DOWN = "bert.encoder.layer.1.output.adapters.x.adapter_down.0.weight"
UP = "bert.encoder.layer.0.output.adapters.x.adapter_up.bias"


def test_every_fault_of_the_tensors_in_one_error(saved: Path) -> None:
    def change(tensors: Tensors) -> None:
        del tensors[UP]
        tensors["bert.encoder.layer.0.output.adapters.x.extra"] = torch.zeros(2)
        tensors[DOWN] = tensors[DOWN].t().contiguous()
        tensors[DOWN.replace("weight", "bias")] = torch.zeros(2, dtype=torch.int64)
        tensors[UP.replace("bias", "weight")][0, 0] = float("nan")

    change_tensors(saved / "adapter.safetensors", change)
    change_tensors(saved / "model_head.safetensors", lambda tensors: tensors["heads.x.1.bias"].fill_(float("inf")))
    error = refusal(saved)
    assert isinstance(error, AdapterError)
    assert error.code == "adapter-misfit"
    assert error.missing == (UP.removeprefix("bert."),)
    assert error.surplus == ("encoder.layer.0.output.adapters.x.extra",)
    assert [str(name).split(" ")[0] for name in error.values["wrong"]] == [  # type: ignore[attr-defined]  # a tuple
        DOWN.removeprefix("bert."),
        DOWN.removeprefix("bert.").replace("weight", "bias"),
    ]
    assert error.nonfinite == (UP.replace("bias", "weight"), "heads.x.1.bias")
    assert "[32, 2], expected [2, 32]" in str(error)
    assert "I64" in str(error)


def test_two_names_for_one_tensor_must_agree(tmp_path: Path) -> None:
    handle = adpm.attach(make())
    handle.add("x", "pfeiffer", ln_before=True)
    handle.save("x", tmp_path)
    alias = "bert.encoder.layer.0.output.adapters.x.adapter_norm_before.weight"
    change_tensors(tmp_path / "adapter.safetensors", lambda tensors: tensors.pop(alias))
    adpm.attach(make()).read(tmp_path, name="x")
    change_tensors(tmp_path / "adapter.safetensors", lambda tensors: tensors.update({alias: torch.zeros(32)}))
    assert "another name" in str(refusal(tmp_path))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"reduction_factor": "16"}, "config.reduction_factor"),
        ({"reduction_factor": -1}, "config.reduction_factor"),
        ({"reduction_factor": {"first": 2}}, "config.reduction_factor.first"),
        ({"non_linearity": "swoosh"}, "config.non_linearity"),
        ({"non_linearity": None}, "config.non_linearity"),
        ({"mh_adapter": "yes"}, "config.mh_adapter"),
        ({"mh_adapter": 1}, "config.mh_adapter"),
        ({"leave_out": [0, "1"]}, "config.leave_out[1]"),
        ({"scaling": "much"}, "config.scaling"),
        ({"inv_adapter": "nice"}, "config"),
        ({"init_weights": "magic"}, "config.init_weights"),
        ({"dropout": 2}, "config.dropout"),
        ({"new_gates": True}, "config.new_gates"),
        ({"new_scale": 0.5}, "config.new_scale"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"name": ""}, "name"),
        ({"config": []}, "config"),
    ],
)
def test_bad_settings_are_named_with_their_path(saved: Path, changes: dict[str, object], where: str) -> None:
    change_config(saved / "adapter_config.json", **changes)
    error = refusal(saved)
    assert isinstance(error, DocumentError)
    assert error.code == "adapter-config-invalid"
    assert [fault.path for fault in error.faults] == [where]


def test_unknown_keys_that_are_off_are_accepted(saved: Path) -> None:
    change_config(saved / "adapter_config.json", new_gates=False, new_scale=0, new_list=[], new_name=None, comment="hi")
    adpm.attach(make()).read(saved, name="x")


def test_all_bad_settings_at_once(saved: Path) -> None:
    change_config(saved / "adapter_config.json", mh_adapter="yes", scaling="much", new_thing=1)
    error = refusal(saved)
    assert isinstance(error, DocumentError)
    assert {fault.path for fault in error.faults} == {"config.mh_adapter", "config.scaling", "config.new_thing"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peft_type": "ADAMSS"}, "method-unsupported"),
        ({"use_qalora": True}, "method-unsupported"),
        ({"init_lora_weights": "corda"}, "method-unsupported"),
        ({"velora_config": {"num_groups": 8}}, "method-unsupported"),
        ({"use_bdlora": True}, "adapter-config-invalid"),
        ({"use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["query"]}, "use_dora": True}, "adapter-config-invalid"),
        ({"use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["none"]}}, "adapter-misfit"),
        ({"new_feature": "on"}, "adapter-config-invalid"),
        ({"r": 0}, "adapter-config-invalid"),
        ({"r": 8.5}, "adapter-config-invalid"),
        ({"target_modules": None}, "adapter-config-invalid"),
        ({"target_modules": "(query|value"}, "adapter-config-invalid"),
        ({"target_modules": ".*.*.*.*.*query"}, "adapter-config-invalid"),
        ({"bias": "some"}, "adapter-config-invalid"),
        ({"rank_pattern": {"query": 2}}, "adapter-misfit"),
        ({"target_modules": ["query"]}, "adapter-misfit"),
        ({"use_dora": True}, "adapter-misfit"),
        ({"modules_to_save": None}, "adapter-misfit"),
    ],
)
def test_bad_settings_of_peft(peft: Path, changes: dict[str, object], code: str) -> None:
    change_config(peft / "adapter_config.json", **changes)
    assert refusal(peft, make(head=True)).code == code


def test_peft_settings_that_change_nothing(peft: Path) -> None:
    changes = {"new_feature": None, "loftq_config": {}, "eva_config": {"rho": 2.0}, "peft_version": "9.9"}
    change_config(peft / "adapter_config.json", **changes)
    adpm.attach(make(head=True)).read(peft, name="x")


def test_a_head_without_its_place(peft: Path) -> None:
    error = refusal(peft, make())
    assert error.surplus == ("base_model.model.classifier.bias", "base_model.model.classifier.weight")


def test_names_with_and_without_the_base_s_prefix(tmp_path: Path) -> None:
    """LoRA from a bare BERT goes onto a classifier and the other way round, as AdapterHub's adapters do."""
    for head in (True, False):
        handle = adpm.attach(make(head=head))
        handle.add("x", "peft_lora", target_modules=["query"])
        randomise(handle, "x")
        handle.save("x", tmp_path / str(head))
        other = adpm.attach(make(head=not head))
        other.read(tmp_path / str(head), name="y")
        first, second = handle.adapters["x"].state_dict(), other.adapters["y"].state_dict()
        assert [torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True)] == [True] * 6


@pytest.mark.parametrize(
    ("changes", "reason"), [({"num_hidden_layers": 2}, "surplus"), ({"hidden_size": 64}, "hidden")]
)
def test_another_size_of_model(saved: Path, changes: dict[str, Any], reason: str) -> None:
    assert reason in str(refusal(saved, make(**changes)))


def test_another_family(saved: Path) -> None:
    error = refusal(saved, make("roberta"))
    assert isinstance(error, BaseMismatchError)
    assert "bert" in str(error)
    assert "roberta" in str(error)


def test_the_base_that_an_adapter_is_known_to_have(saved: Path) -> None:
    base = identify(make())
    adpm.attach(make()).read(saved, name="x", base=base)
    adpm.attach(make().to(torch.bfloat16)).read(saved, name="x", base=base)
    error = refusal(saved, make(seed=1), base=base)
    assert isinstance(error, BaseMismatchError)
    assert error.code == "base-mismatch"
    shape = Shape("gpt2", ())
    assert refusal(saved, make(), base=BaseIdentity(None, None, shape, None)).code == "base-mismatch"


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter.safetensors", "model_head.safetensors"])
def test_missing_files(saved: Path, name: str) -> None:
    (saved / name).unlink()
    error = refusal(saved)
    assert isinstance(error, NotFoundError)
    assert error.code == "adapter-not-found"


def test_no_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").code == "adapter-not-found"
    assert refusal(tmp_path).code == "adapter-not-found"


def test_a_head_of_another_kind(saved: Path) -> None:
    """A kind that nobody knows, and the head of a whole model class, which has no settings."""
    change_config(saved / "head_config.json", head_type="fortune_telling")
    assert refusal(saved).code == "method-unsupported"
    change_config(saved / "head_config.json", head_type="classification")
    adpm.attach(make()).read(saved, name="x")
    value = {"config": None, "hidden_size": 32, "model_class": "BertForTokenClassification", "num_labels": 9}
    (saved / "head_config.json").write_text(json.dumps(value), "utf-8")
    assert refusal(saved).code == "method-unsupported"
    model = make()
    adpm.attach(model).read(saved, name="x", with_head=False)
    model.adpm.activate("x")
    assert "logits" not in outputs(model)


@settings(max_examples=60)
@given(data=st.data())
def test_broken_bytes_never_surprise(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any byte of any file changed: it is read, or refused with an error of adpm's."""
    handle = adpm.attach(make())
    handle.add("x", "pfeiffer", head=2)
    files: dict[str, Any] = {}
    directory = tmp_path_factory.mktemp("x")
    handle.save("x", directory)
    for path in directory.iterdir():
        files[path.name] = bytearray(path.read_bytes())
    name = data.draw(st.sampled_from(sorted(files)))
    place = data.draw(st.integers(0, min(len(files[name]), 3_000) - 1))
    files[name][place] = data.draw(st.integers(0, 255))
    other = adpm.attach(make())
    try:
        other.read_files(files, "y", source="changed files")
    except AdpmError:
        assert other.names == ()
    else:
        other.activate("y")


def test_read_only_bytes_are_copied(saved: Path) -> None:
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    handle = adpm.attach(make())
    handle.read_files(files, "x", source="memory")
    handle.train("x")
    for parameter in handle.parameters():
        parameter.data.zero_()
    assert files == {path.name: path.read_bytes() for path in saved.iterdir()}


def test_training_a_mapped_adapter_leaves_its_file_alone(saved: Path) -> None:
    before = (saved / "adapter.safetensors").read_bytes()
    handle = adpm.attach(make())
    handle.read(saved, name="x")
    for parameter in handle.parameters():
        parameter.data.add_(1.0)
    assert (saved / "adapter.safetensors").read_bytes() == before


def as_pickles(directory: Path) -> None:
    for path in directory.glob("*.safetensors"):
        torch.save(load_file(path), directory / f"pytorch_{path.stem.removeprefix('pytorch_')}.bin")
        path.unlink()


def test_pickles_are_converted(saved: Path) -> None:
    handle = adpm.attach(make())
    handle.read(saved, name="x")
    as_pickles(saved)
    other = adpm.attach(make())
    other.read(saved, name="x")
    first, second = handle.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_does_not(saved: Path, tmp_path: Path, zipped: bool) -> None:
    as_pickles(saved)
    mark = tmp_path / "mark"
    target = saved / "pytorch_adapter.bin"
    if zipped:
        torch.save({"x": Evil(mark)}, target)
    else:
        target.write_bytes(pickle.dumps({"x": Evil(mark)}))
    error = refusal(saved)
    assert error.code == "pickle-refused"
    assert not mark.exists()


@pytest.mark.parametrize("value", [[1, 2], {"x": 1}, {1: torch.zeros(1)}, torch.zeros(1)])
def test_pickles_hold_named_tensors_only(value: object) -> None:
    stored = io.BytesIO()
    torch.save(value, stored)
    with pytest.raises(ValueError, match="named tensors"):
        _convert(stored.getvalue())


def test_broken_pickles() -> None:
    for data in (b"", b"PK\x03\x04", b"not a pickle", b"\x80\x02."):
        with pytest.raises(REFUSED):
            _convert(data)
    with pytest.raises(AdapterError) as error:
        unpickle({"x": b"not a pickle"}, source="somewhere")
    assert error.value.code == "pickle-refused"


def test_old_files_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """Version 1: other names, a nested invertible block that a task adapter does not have, "gelu" for gelu_new."""
    model = make()
    handle = adpm.attach(model)
    handle.add("new", "pfeiffer", non_linearity="gelu_new")
    randomise(handle, "new")
    handle.save("new", tmp_path)
    handle.activate("new")
    expected = outputs(model)
    tensors = load_file(tmp_path / "adapter.safetensors")
    (tmp_path / "adapter.safetensors").unlink()
    old = {name.replace(".adapters.", ".layer_text_task_adapters."): value for name, value in tensors.items()}
    torch.save(old, tmp_path / "pytorch_adapter.bin")
    value = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    del value["version"], value["config"]["inv_adapter"], value["config"]["inv_adapter_reduction_factor"]
    value["type"] = "text_task"
    value["config"] |= {
        "non_linearity": "gelu",
        "invertible_adapter": {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2},
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(value), "utf-8")
    handle.read(tmp_path, name="old")
    handle.activate("old")
    found = outputs(model)
    assert all(torch.allclose(found[key], value, atol=1e-6) for key, value in expected.items())


def test_lora_from_before_1_1_0_had_alpha_equal_to_r(tmp_path: Path) -> None:
    handle = adpm.attach(make())
    handle.add("x", "lora", r=4, alpha=16)
    handle.save("x", tmp_path)
    change_config(tmp_path / "adapter_config.json", version="adapters.1.0.1")
    handle.read(tmp_path, name="y")
    handle.save("y", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text("utf-8"))["config"]["alpha"] == 4


def test_every_activation_has_its_function() -> None:
    assert ACTIVATIONS.keys() == ACTIVATION_WEIGHTS.keys()


# The feed-forward's first layer in transformers 4 and 5: as a target, and in a tensor's name.
RENAMED = {
    "vit": (("intermediate.dense", "encoder.layer.{}.intermediate.dense"), ("fc1", "layers.{}.mlp.fc1")),
    "beit": (("intermediate.dense", "encoder.layer.{}.intermediate.dense"), ("fc1", "layers.{}.mlp.fc1")),
    "clip_text_model": (("fc1", "text_model.encoder.layers.{}.mlp.fc1"), ("fc1", "encoder.layers.{}.mlp.fc1")),
}


@pytest.mark.parametrize("pattern", [False, True])
@pytest.mark.parametrize("family", RENAMED)
def test_a_file_from_before_modules_were_renamed(family: str, tmp_path: Path, *, pattern: bool) -> None:
    """And one from after, where this is the older release: what it targets is what it was trained on."""
    torch.manual_seed(0)
    model = SMALL[family].model()
    handle = adpm.attach(model)
    ours, theirs = RENAMED[family][:: 1 if ours_is_four(family, model) else -1]
    handle.add("x", "peft_lora", target_modules=[ours[1].format(layer) for layer in (0, 1)], rank_pattern={r"1\..*": 2})
    randomise(handle, "x")
    handle.save("x", tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for layer in (0, 1):
        tensors = {name.replace(ours[1].format(layer), theirs[1].format(layer)): t for name, t in tensors.items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    whole = re.escape(theirs[1]).replace(r"\{\}", r"\d")
    config["target_modules"] = whole if pattern else [theirs[1].split(".{}.")[1]]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    handle.read(tmp_path, name="y")
    inputs = model_inputs(SMALL[family].kind)
    found = []
    for name in (None, "x", "y", "stack(x, y)"):
        with handle.using(name), torch.no_grad():
            found.append(model(**inputs).last_hidden_state)
    assert torch.equal(found[1], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[1], found[3], atol=1e-3)
    handle.save("y", tmp_path / "again")
    assert load_file(tmp_path / "again" / "adapter_model.safetensors").keys() == tensors.keys()
    handle.merge("y")
    with torch.no_grad():
        assert torch.allclose(model(**inputs).last_hidden_state, found[1], atol=1e-5)


def ours_is_four(family: str, model: Any) -> bool:
    return any(name == RENAMED[family][0][1].format(0) for name, _ in model.named_modules())


@pytest.mark.parametrize("number", [-1, 1 << 20])
@pytest.mark.parametrize(
    ("method", "settings", "name"),
    [
        ("shira", {"r": 2}, "shira_indices"),
        ("supertuning", {"sparsity": 0.9, "save_precomputed_indices": True}, "supertuning_indices"),
        ("vblora", {"num_vectors": 8, "vector_length": 16, "save_only_topk_weights": True}, "topk_indices"),
    ],
)
def test_places_that_are_not_in_the_module(
    method: str, settings: dict[str, Any], name: str, number: int, tmp_path: Path
) -> None:
    model = make()
    handle = adpm.attach(model)
    handle.add("x", f"peft_{method}", target_modules=["query"], **settings)
    handle.save("x", tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    places = next(value for key, value in tensors.items() if name in key)
    places.view(-1)[-1] = number
    save_file(tensors, path)
    with pytest.raises(AdapterError, match=name) as error:
        handle.read(tmp_path, name="y")
    assert error.value.code == "adapter-misfit"
