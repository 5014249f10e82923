"""What random fixtures of AdapterHub's found out; its own outputs are in ``tests/parity``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adpm
from adpm.formats.adapterhub_methods import Reft, method_of, methods_value
from tests.parity.peers.small import SMALL, model_inputs, randomise
from tests.runtime.models import inputs, make
from tests.runtime.models import randomise as shake


def small(family: str, **changes: Any) -> Any:
    """A random model with a handle."""
    torch.manual_seed(0)
    model = SMALL[family].model(**changes)
    randomise(model, 0.15)
    adpm.attach(model)
    return model


def run(model: Any, composition: str | None, **given: torch.Tensor) -> Any:
    given = given or model_inputs(SMALL[model.config.model_type].kind)
    with model.adpm.using(composition), torch.no_grad():
        return model(**given, output_hidden_states=True)


@pytest.mark.parametrize("family", ["distilbert", "albert", "vit", "deberta-v2"])
def test_gates_beside_a_prefix_see_the_text_alone(family: str) -> None:
    """UniPELT's LoRA takes the mean of its gate over what a projection gets."""
    model = small(family, **({"num_hidden_groups": 3} if family == "albert" else {}))
    model.adpm.add("p", "prefix_tuning_flat", prefix_length=4)
    model.adpm.add("g", "lora", use_gating=True)
    shake(model.adpm, "g")
    words = ("q_lin", "query", "q_proj", "query_proj")
    length = run(model, None).last_hidden_state.shape[1]
    seen: list[int] = []
    with model.adpm.using("stack(p, g)"), torch.no_grad():
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in words:  # behind adpm's own hook
                module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        model(**model_inputs(SMALL[family].kind))
    assert length in seen
    assert length + 4 not in seen


def test_skipped_layers_have_no_intervention() -> None:
    model = small("bert")
    model.adpm.add("x", "noreft", r=2)
    shake(model.adpm, "x")
    bare, found = run(model, None), run(model, "skip(x: 0)")
    assert torch.equal(found.hidden_states[1], bare.hidden_states[1])
    assert not torch.allclose(found.hidden_states[2], bare.hidden_states[2], atol=1e-3)


@pytest.mark.parametrize("settings", [{"config": "pfeiffer"}, {"config": "houlsby"}, {"config": "lora"}])
@pytest.mark.parametrize("groups", [1, 2])
def test_layers_that_serve_several_times_repeat_rows_once(settings: dict[str, Any], groups: int) -> None:
    model = small("albert", num_hidden_layers=4, num_hidden_groups=groups)
    for seed, name in enumerate("ab"):
        model.adpm.add(name, **settings, leave_out=[])
        shake(model.adpm, name, seed)
    alone = [run(model, name).last_hidden_state for name in "ab"]
    assert torch.allclose(run(model, "parallel(a, b)").last_hidden_state, torch.cat(alone), atol=1e-5)


def test_clip_s_towers_have_prefixes_of_their_own(tmp_path: Any) -> None:
    """By names and sizes of their own, as the peer writes them."""
    vision = {**SMALL["clip"].settings["vision_config"], "hidden_size": 48}
    model = small("clip", vision_config=vision)
    model.adpm.add("x", "prefix_tuning_flat", prefix_length=2)
    model.adpm.add("y", "loreft", r=2)
    model.adpm.save("x", tmp_path)
    sizes = {
        name.rsplit(".", 2)[1]: value.numel() for name, value in load_file(tmp_path / "adapter.safetensors").items()
    }
    assert sizes == {"clip_text_model_self_prefix": 2 * 4 * 32, "clip_vision_model_self_prefix": 2 * 4 * 48}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_under_eager_attention_a_prompt_does_not_see_padding(attention: str) -> None:
    model = make(attn_implementation=attention)
    adpm.attach(model).add("x", "prompt_tuning", prompt_length=2)
    given = inputs(2, 6)
    given["attention_mask"] = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    other = {**given, "input_ids": given["input_ids"].clone()}
    other["input_ids"][0, 4:] += 1
    first, second = (run(model, "x", **each).hidden_states[1][0, :2] for each in (given, other))
    assert torch.allclose(first, second, atol=1e-6) == (attention == "eager")


def test_in_a_union_no_intervention_is_direft_s() -> None:
    """The peer forgets what DiReFT is when it makes the union, before it trains it."""
    direct = {"architecture": "reft", "orthogonality": False, "non_linearity": "relu"}
    lora = {"architecture": "lora"}
    (alone,) = method_of(direct, source="test")
    union = method_of({"architecture": "union", "configs": [direct, lora]}, source="test")
    assert isinstance(alone, Reft)
    assert isinstance(union[0], Reft)
    assert (alone.subtract_projection, union[0].subtract_projection) == (False, True)
    for methods in ((alone,), union, (alone, union[1])):
        assert method_of(methods_value(methods), source="test") == methods


@pytest.mark.parametrize("tied", [True, False])
def test_t5_scales_its_states_for_heads_as_its_checkpoint_says(tied: bool) -> None:
    """T5 1.1 is told by ``tie_word_embeddings``; a classifier is never given scaled ones."""
    model = small("t5", tie_word_embeddings=tied)
    given = model_inputs("pair")
    given["input_ids"][:, 3] = model.config.eos_token_id
    given["decoder_input_ids"] = given["input_ids"]
    scale = 32**-0.5 if tied else 1.0
    for kind in ("seq2seq_lm", "classification"):
        model.adpm.add(kind, "pfeiffer", head={"head_type": kind, "layers": 1})
        head = next(part for part in model.adpm.adapters[kind].parts.values() if "Head" in type(part).__name__)
        found = run(model, kind, **given)
        states = found.decoder_hidden_states[-1]
        read = states * scale if kind == "seq2seq_lm" else states[:, 3]
        assert torch.allclose(found.logits, head.logits(read), atol=1e-5)
