"""What every method does, on small models: acts, is saved and read exactly, trains alone, and merges where it can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import adpm
from adpm.errors import AdapterError, CompositionError, DocumentError
from adpm.runtime.methods.layer import LayerPart, bias_of, weight_of
from tests.parity.peers.peer import peer
from tests.parity.peers.small import SMALL, model_inputs
from tests.runtime.models import inputs, make, outputs, randomise
from tests.runtime.test_round_trip import check_peer, write_for_peer

# Settings by a short name: what `add` is given. Values that are off in the peer are on here where they can be.
PEFT: dict[str, dict[str, Any]] = {
    "ia3": {"feedforward_modules": ["output.dense"]},
    "adalora": {"init_r": 4},
    "loha": {"r": 3, "rank_pattern": {"query": 2}},
    "lokr": {"r": 2, "decompose_both": True, "init_weights": "lycoris"},
    "lokr-whole": {"r": 16},
    "oft": {"oft_block_size": 8},
    "oft-shared": {
        "r": 4,
        "oft_block_size": 0,
        "block_share": True,
        "coft": True,
        "eps": 0.5,
        "use_cayley_neumann": False,
    },
    "boft": {"boft_block_size": 4, "bias": "boft_only"},
    "boft-butterfly": {"boft_block_size": 4, "boft_n_butterfly_factor": 3},
    "hra": {"r": 4},
    "hra-orthogonal": {"r": 3, "apply_GS": True},
    "fourierft": {"n_frequency": 30, "scaling": 20.0},
    "vblora": {"num_vectors": 8, "vector_length": 16},
    "randlora": {"r": 5, "randlora_alpha": 10},
    "randlora-sparse": {"r": 4, "sparse": True, "save_projection": False, "randlora_alpha": 10},
    "vera": {"r": 8, "save_projection": False},
    "miss": {"r": 6},
    "miss-mini": {"r": 4, "init_weights": "mini", "mini_r": 8},
    "shira": {"r": 2, "random_seed": 3},
    "c3a": {"block_size": 8},
    "road": {"group_size": 8},
    "road-four": {"variant": "road_4", "group_size": 16},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "trainable_tokens": {"target_modules": ["word_embeddings"], "token_indices": [3, 9, 17]},
    "lora": {"target_modules": ["query", "word_embeddings"], "use_dora": True},
    "lora-tokens": {"trainable_token_indices": [4, 5]},
    "lora-pissa": {"init_lora_weights": "pissa", "r": 4},
    "lora-olora": {"init_lora_weights": "olora", "r": 4},
    "lora-kasa": {"kasa_config": {}, "r": 4},
    "lora-blocks": {"use_bdlora": {"target_modules_bd_b": ["query"], "nblocks": 4, "match_strict": False}, "r": 4},
    "lora-orthogonal": {"init_lora_weights": "orthogonal", "r": 4},
    "beft": {},
    "deft": {"r": 4, "alpha": 8},
    "deft-para": {"r": 3, "para": True, "decomposition_method": "qr"},
    "delora": {"r": 4, "lambda_pattern": {"query": 3}},
    "glora": {"r": 3},
    "glora-plain": {"config_A_B": "vector", "config_C": "none", "config_D_E": "vector"},
    "gralora": {"r": 4, "hybrid_r": 3},
    "hira": {"r": 4},
    "peanut": {"r": 4, "depth": 2, "act_fn": "gelu"},
    "pvera": {"r": 8, "save_projection": False},
    "supertuning": {"sparsity": 0.9, "r": 3},
    "supertuning-found": {"sparsity": 0.8, "select_top": False, "save_precomputed_indices": False},
    "tinylora": {"r": 3, "u": 5, "weight_tying": 0.5},
    "tinylora-made": {"r": 2, "u": 7, "save_projection": False},
    "unilora": {"r": 3, "theta_d_length": 50},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
}
HUB: dict[str, dict[str, Any]] = {
    "mtl_lora": {"n_up_projection": 3, "r": 4},
    "mtl_lora-linear": {"task_specific_matrix_type": "linear", "use_gating": True},
    "loreft": {"r": 2, "suffix_positions": 2},
    "noreft": {"r": 3, "layers": [0, 2], "suffix_positions": 1},
    "direft": {"non_linearity": "relu", "tied_weights": True},
    "prefix_tuning": {"prefix_length": 3, "bottleneck_size": 8, "use_gating": True, "shared_gating": False},
    "prefix_tuning_flat": {"prefix_length": 3, "leave_out": [1]},
    "prompt_tuning": {"prompt_length": 3, "combine": "prefix_after_bos"},
    "adapter_plus": {"reduction_factor": 4, "stochastic_depth": 0.0},  # for which the peer wants torchvision
    "mam": {},
    "unipelt": {},
}
ALL = [*((f"peft_{name}", settings) for name, settings in PEFT.items()), *HUB.items()]
MERGING = [name for name in PEFT if not name.startswith(("prompt", "prefix", "ln", "trainable", "lora"))]


def settings_of(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    config = name.split("-", maxsplit=1)[0]
    plain = config.startswith("peft_") and not config.endswith(("prompt_tuning", "prefix_tuning"))
    targets = {"target_modules": ["query", "attention.output.dense", "output.dense"]} if plain else {}
    return {"config": config, **targets, **settings}


def with_adapter(name: str, settings: dict[str, Any]) -> Any:
    model = make()
    torch.manual_seed(5)
    adpm.attach(model).add("x", **settings_of(name, settings))
    return model


def shake(model: Any) -> None:
    """Random values around what is trained started with, so that no zero start hides an error."""
    generator = torch.Generator().manual_seed(3)
    adapter = model.adpm.adapters["x"]
    for part in adapter.parts.values():
        part.make_trainable()
    for parameter in adapter.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data + 0.2 * noise.to(parameter)
            parameter.requires_grad_(False)


def far(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(
        float((first[key] - value).abs().max()) if first[key].shape == value.shape else 1.0
        for key, value in second.items()
    )


@pytest.mark.parametrize(("name", "settings"), ALL, ids=[name for name, _ in ALL])
def test_it_acts_and_is_saved_exactly(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    bare = outputs(make())
    model = with_adapter(name, settings)
    handle = model.adpm
    shake(model)
    assert far(outputs(model), bare) == 0
    handle.activate("x")
    expected = outputs(model)
    assert far(expected, bare) > 1e-3
    handle.save("x", tmp_path)
    other = make()
    again = adpm.attach(other)
    again.read(tmp_path, name="x")
    again.activate("x")
    assert far(outputs(other), expected) < 1e-5  # where a weight lies in memory decides the last bits
    ours, theirs = handle.adapters["x"].state_dict(), again.adapters["x"].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    again.save("x", tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    assert far(outputs(handle.unload()), bare) == 0


@pytest.mark.parametrize(("name", "settings"), ALL, ids=[name for name, _ in ALL])
def test_gradients_reach_the_adapter_and_only_it(name: str, settings: dict[str, Any]) -> None:
    model = with_adapter(name, settings)
    shake(model)
    model.adpm.train("x")
    model(**inputs()).last_hidden_state.square().sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert {id(p) for p in trained} <= {id(p) for p in model.adpm.adapters["x"].parameters()}
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
    assert any(parameter.grad.abs().max() > 0 for parameter in trained)


@pytest.mark.parametrize(("name", "settings"), ALL, ids=[name for name, _ in ALL])
def test_a_new_one_does_what_the_peer_s_does(name: str, settings: dict[str, Any]) -> None:
    """Nothing yet, but where the peer starts with an effect of its own."""
    bare = outputs(make())
    model = with_adapter(name, settings)
    model.adpm.activate("x")
    found = outputs(model)
    words = (
        "fourier",
        "c3a",
        "vblora",
        "prompt",
        "prefix",
        "reft",
        "mam",
        "unipelt",
        "hra-orthogonal",
        "plus",
        "kasa",
        "para",
        "unilora",
    )
    assert (far(found, bare) > 1e-4) == any(word in name for word in words)


@pytest.mark.parametrize("name", MERGING)
def test_merged_weights_do_the_same(name: str) -> None:
    model = with_adapter(f"peft_{name}", PEFT[name])
    shake(model)
    model.adpm.activate("x")
    expected = outputs(model)
    merged = make()
    for part in model.adpm.adapters["x"].parts.values():
        if isinstance(part, LayerPart):
            layer = merged.get_submodule(part.layer)
            with torch.no_grad():
                weight, bias = part.fold_output(weight_of(layer), bias_of(layer))
                layer.weight = nn.Parameter(part.fold_input(weight))
                layer.bias = None if bias is None else nn.Parameter(bias)
    assert far(outputs(merged), expected) < 1e-4


CONVOLVED: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 4},
    "boft": {"boft_block_size": 4},
    "hra": {"r": 3},
    "ia3": {"feedforward_modules": []},
    "ia3-feed": {"feedforward_modules": ["projection"]},
    "loha": {"r": 3},
    "loha-effective": {"r": 3, "use_effective_conv2d": True},
    "lokr": {"r": 2},
    "lokr-effective": {"r": 2, "use_effective_conv2d": True},
    "lokr-whole": {"r": 64},
}


@pytest.mark.parametrize("name", CONVOLVED)
def test_methods_act_on_convolutions_and_merge(name: str) -> None:
    model, given = patched(name, CONVOLVED[name])
    with torch.no_grad():
        bare = model(**given).last_hidden_state
        model.adpm.activate("x")
        expected = model(**given).last_hidden_state
        assert float((expected - bare).abs().max()) > 1e-3
        model.adpm.merge("x")
        assert torch.allclose(model(**given).last_hidden_state, expected, atol=1e-4)


def test_oft_on_a_convolution_has_no_weight_to_merge_into() -> None:
    model, _ = patched("oft", {"oft_block_size": 8})
    with pytest.raises(AdapterError) as error:
        model.adpm.merge("x")
    assert error.value.code == "merge-unsupported"


def patched(name: str, settings: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    """A ViT whose patch embedding an adapter changes, and pixels for it."""
    torch.manual_seed(2)
    model = SMALL["vit"].model()
    adpm.attach(model).add("x", config=f"peft_{name.partition('-')[0]}", target_modules=["projection"], **settings)
    shake(model)
    return model, model_inputs("image")


def test_a_bias_that_modules_share_is_changed_once() -> None:
    model = SMALL["bert"].model("LMHeadModel", is_decoder=True)
    head = model.cls.predictions
    assert head.bias is head.decoder.bias
    handle: Any = adpm.attach(model)
    handle.add("x", config="peft_lora", target_modules=["query"], bias="all")
    given = model_inputs("text")
    with torch.no_grad():
        bare = model(**given).logits
        bias = next(part for part in handle.adapters["x"].parts.values() if "decoder" in getattr(part, "layer", ""))
        bias["bias"].data += 1.0
        handle.activate("x")
        assert torch.allclose(model(**given).logits, bare + 1.0, atol=1e-5)


def test_a_method_that_does_not_fit_says_where() -> None:
    handle = adpm.attach(make())
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"config": "peft_c3a", "block_size": 7}, "block_size 7"),
        ({"config": "peft_vblora", "vector_length": 5}, "vector_length 5"),
        ({"config": "peft_boft", "boft_block_size": 5}, "5 does not divide"),
        ({"config": "peft_road", "group_size": 5}, "group_size 5"),
        ({"config": "peft_shira", "r": 60}, "fewer than"),
        ({"config": "peft_fourierft", "n_frequency": 9999}, "fewer than"),
        ({"config": "peft_gralora", "r": 5, "gralora_k": 5}, "gralora_k = 5"),
    )
    for settings, word in cases:
        with pytest.raises(AdapterError) as error:
            handle.add("x", target_modules=["query"], **settings)
        assert error.value.code == "adapter-misfit"
        assert word in str(error.value)
    assert handle.names == ()


def test_hira_s_ranks_are_those_in_the_file(tmp_path: Path) -> None:
    """The peer follows ``rank_pattern`` only where another adapter is there already."""
    handle = adpm.attach(make())
    for name, pattern in (("plain", {}), ("patterned", {"query": 2})):
        handle.add(name, "peft_hira", target_modules=["query", "value"], r=4, rank_pattern=pattern)
        handle.save(name, tmp_path / name)
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "rank_pattern": {"query": 2}}), "utf-8")
        handle.read(tmp_path / name, f"{name}-again")
        first, second = (handle.adapters[key].state_dict() for key in (name, f"{name}-again"))
        assert all(torch.equal(first[key], second[key]) for key in first.keys() | second.keys())


def test_what_is_random_at_inference_is_refused() -> None:
    with pytest.raises(AdapterError) as error:
        adpm.attach(make()).add("x", "peft_pvera", target_modules=["query"], sample_at_inference=True)
    assert error.value.code == "method-unsupported"
    assert "sample_at_inference" in str(error.value)


def test_settings_are_read_strictly() -> None:
    handle = adpm.attach(make())
    wrong: list[dict[str, Any]] = [
        {"config": "peft_ia3"},
        {"config": "peft_oft", "target_modules": ["query"], "r": 4},
        {"config": "peft_hra", "target_modules": ["query"], "novelty": True},
        {"config": "prompt_tuning", "prompt_init": "from_string"},
        {"config": "loreft", "prefix_positions": 0},
    ]
    for settings in wrong:
        with pytest.raises(DocumentError):
            handle.add("x", **settings)


def test_files_hold_what_the_peer_can_t_do_without(tmp_path: Path) -> None:
    """Steps of AdaLoRA's training, a task for virtual tokens, and a flat magnitude of an embedding's DoRA."""
    handle = adpm.attach(make())
    handle.add("steps", "peft_adalora", target_modules=["query"])
    handle.add("task", "peft_prompt_tuning", num_virtual_tokens=2)
    handle.add("flat", "peft_lora", target_modules=["word_embeddings"], use_dora=True)
    for name in handle.names:
        handle.save(name, tmp_path / name)
    configs = {name: json.loads((tmp_path / name / "adapter_config.json").read_text("utf-8")) for name in handle.names}
    assert configs["steps"]["total_step"] == 1
    assert configs["task"]["task_type"] == "FEATURE_EXTRACTION"
    magnitudes = [t for k, t in load_file(tmp_path / "flat/adapter_model.safetensors").items() if "magnitude" in k]
    assert [tuple(tensor.shape) for tensor in magnitudes] == [(32,)]


def test_reft_counts_the_text_s_own_positions_wherever_a_prompt_stands_in_the_union() -> None:
    prompt = {"architecture": "prompt_tuning", "prompt_length": 2}
    reft = {"architecture": "reft", "orthogonality": False, "prefix_positions": 0, "suffix_positions": 2, "r": 1}
    handle = adpm.attach(make())
    for name, configs in (("before", [prompt, reft]), ("behind", [reft, prompt])):
        handle.add(name, {"architecture": "union", "configs": configs})
    one, other = (dict(handle.adapters[name].named_parameters()) for name in ("before", "behind"))
    assert one.keys() == other.keys()
    for number, (name, parameter) in enumerate(sorted(one.items())):
        torch.manual_seed(number)
        parameter.data.normal_()
        other[name].data.copy_(parameter)
    handle.activate("before")
    found = outputs(handle.model)
    handle.activate("behind")
    assert far(found, outputs(handle.model)) == 0


def test_where_reft_s_first_and_last_positions_meet_the_last_win() -> None:
    """The last row has four tokens: its third is among the first three and the last two."""
    model = with_adapter("noreft", {"prefix_positions": 3, "suffix_positions": 2, "layers": [0]})
    shake(model)
    model.adpm.activate("x")
    before = outputs(model)["hidden_states.1"]
    for name, parameter in model.adpm.named_parameters():
        if name.endswith("source0_bias"):
            parameter.data += 1
    after = outputs(model)["hidden_states.1"]
    assert torch.equal(after[-1, 2], before[-1, 2])
    assert not torch.allclose(after[-1, 1], before[-1, 1])
    assert not torch.allclose(after[0, 2], before[0, 2])


def test_only_one_can_put_virtual_tokens_before_the_input() -> None:
    handle = adpm.attach(make())
    for name in ("a", "b"):
        handle.add(name, "peft_prompt_tuning", num_virtual_tokens=2)
        randomise(handle, name)
    with pytest.raises(CompositionError):
        handle.activate("stack(a, b)")


@pytest.mark.slow
def test_peft_reads_what_adpm_saves(tmp_path: Path) -> None:
    """All but what the peer can't run: butterfly factors without its CUDA extension."""
    python = peer("ADPM_PEFT_PYTHON")
    for name in PEFT.keys() - {"boft-butterfly"}:
        model = with_adapter(f"peft_{name}", PEFT[name])
        shake(model)
        write_for_peer(model, tmp_path / name, format="peft")
    check_peer(python, sorted(tmp_path.iterdir()), **{"lora-kasa": 5e-5})  # the peer takes W apart in float32


@pytest.mark.slow
def test_adapterhub_reads_what_adpm_saves(tmp_path: Path) -> None:
    """All but what the peer's files can't say (DiReFT), and what it can't make at all (MTL-LoRA's linear matrices)."""
    python = peer("ADPM_ADAPTERHUB_PYTHON")
    for name in HUB.keys() - {"direft", "mtl_lora-linear"}:
        model = with_adapter(name, HUB[name])
        shake(model)
        write_for_peer(model, tmp_path / name)
    check_peer(python, sorted(tmp_path.iterdir()))
