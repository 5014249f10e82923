"""AdapterHub's prefixes side by side, and in attention without a cache; the peer's outputs are in ``tests/parity``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adpm
from adpm.errors import CompositionError
from tests.parity.peers.small import SMALL, model_inputs, tensors_of
from tests.runtime.models import inputs, make, randomise

LENGTHS = {"short": 2, "other": 2, "long": 5}
PADDED = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def with_prefixes(family: str, attention: str, **settings: Any) -> Any:
    model = make(family, attn_implementation=attention)
    handle = adpm.attach(model)
    for seed, (name, length) in enumerate(LENGTHS.items()):
        handle.add(name, "prefix_tuning_flat", prefix_length=length, **settings)
        randomise(handle, name, seed)
    handle.add("lora", "lora")
    randomise(handle, "lora")
    return model


def states(model: Any, composition: Any = None, rows: Any = None) -> torch.Tensor:
    with model.adpm.using(composition, rows=rows), torch.no_grad():
        out: torch.Tensor = model(**inputs(3, 9))[0]
    return out


def far(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


@PADDED
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_row_is_what_its_adapter_makes_of_it_alone(family: str, attention: str, gated: bool) -> None:
    model = with_prefixes(family, attention, use_gating=gated)
    for rows in (["long", None, "short"], ["short", "long", "lora"], ["other", "short", "other"]):
        found = states(model, rows=rows)
        for place, name in enumerate(rows):
            alone = states(model, name)
            assert far(found[place], alone[place]) < 2e-5 * max(1.0, float(alone.abs().max()))


@PADDED
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_of_one_length_they_do_what_they_do_alone(family: str, attention: str) -> None:
    model = with_prefixes(family, attention)
    alone = {name: states(model, name) for name in ("short", "other", "stack(short, long)", "stack(other, long)")}
    assert far(alone["short"], alone["other"]) > 1e-2
    found = states(model, "batch(other: 1, short: 2)")
    assert far(found, torch.cat((alone["other"][:1], alone["short"][1:]))) < 2e-5
    found = states(model, "parallel(short, other, short)")
    assert far(found, torch.cat([alone[name] for name in ("short", "other", "short")])) < 2e-5
    found = states(model, "stack(batch(short: 1, other: 2), long)")
    assert far(found, torch.cat((alone["stack(short, long)"][:1], alone["stack(other, long)"][1:]))) < 2e-5


def test_a_skipped_layer_has_no_prefix() -> None:
    model = with_prefixes("bert", "sdpa")
    with model.adpm.using("skip(short: 0, 1, 2)"), torch.no_grad():
        found = model(**inputs(3, 9))[0]
    assert far(found, states(model)) == 0


@pytest.mark.parametrize("composition", ["split(short: 4, other: 5)", "average(short: 1, lora: 1)"])
def test_what_has_no_meaning_is_refused(composition: str) -> None:
    model = with_prefixes("bert", "sdpa")
    with pytest.raises(CompositionError) as error:
        model.adpm.activate(composition)
    assert error.value.code == "composition-unsupported"
    assert "rows" in (error.value.hint or "")


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # what DeBERTa's module does when imported
@pytest.mark.parametrize(
    "family", ["distilbert", "vit", "beit", "clip_text_model", "clip_vision_model", "deberta", "deberta-v2"]
)
def test_it_acts_where_attention_takes_no_cache(family: str) -> None:
    torch.manual_seed(1)
    small = SMALL[family]
    model = small.model()
    given = model_inputs("both")
    words = ("input_ids", "attention_mask") if small.kind == "text" else ("pixel_values",)
    given = {word: given[word] for word in words}
    with torch.no_grad():
        bare = tensors_of(model(**given))
    handle = adpm.attach(model)
    handle.add("x", "prefix_tuning", prefix_length=3, bottleneck_size=4)
    handle.train("x")
    model.eval()
    out = model(**given, output_attentions=False)
    found = tensors_of(out)
    assert found.keys() == bare.keys()
    assert all(found[key].shape == value.shape for key, value in bare.items())
    assert far(found["last_hidden_state"].detach(), bare["last_hidden_state"]) > 1e-4
    out.last_hidden_state.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    with handle.disabled(), torch.no_grad():
        assert far(model(**given)[0], bare["last_hidden_state"]) == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # what DeBERTa's module does when imported
@pytest.mark.parametrize("shared", [True, False])
def test_a_text_that_leaves_no_distance_for_a_prefix_is_refused(shared: bool) -> None:
    """DeBERTa tells no more positions apart than it has; v2 with and without layers that make both kinds of keys."""
    model = SMALL["deberta-v2"].model(max_position_embeddings=40, max_relative_positions=8, share_att_key=shared)
    handle = adpm.attach(model)
    handle.add("x", "prefix_tuning_flat", prefix_length=3)
    handle.activate("x")
    text = inputs(2, 9)["input_ids"]
    with torch.no_grad():
        assert model(input_ids=text[:, :8])[0].shape[1] == 8
        with pytest.raises(CompositionError) as error:
            model(input_ids=text)
    assert error.value.code == "composition-misfit"


def test_layers_that_share_a_bias_of_positions_may_have_prefixes_or_not() -> None:
    """A layer of T5's with other columns than the one before it has no bias, as in the peer: parity is tested there."""
    model = SMALL["t5"].model("ForConditionalGeneration")
    handle = adpm.attach(model)
    handle.add("x", "prefix_tuning_flat", prefix_length=3, leave_out=[1, 2])
    torch.manual_seed(2)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    text = {"input_ids": inputs(2, 9)["input_ids"], "do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}
    with torch.no_grad():
        bare = model.generate(**text)
        handle.activate("x")
        found = model.generate(**text)
        assert torch.equal(model.generate(**text, use_cache=False), found)
        handle.activate("skip(x: 0, 1, 2, 3)")
        assert torch.equal(model.generate(**text), bare)
        handle.activate(None)
        assert torch.equal(model.generate(**text), bare)
    assert not torch.equal(found, bare)


def test_filling_is_seen_alike_in_layers_that_share_a_bias_of_positions() -> None:
    """Zero keys score what is added to them: one where the first layer is filled up, nothing where it has a prefix."""
    model = SMALL["t5"].model("EncoderModel", attn_implementation="eager").eval()
    handle = adpm.attach(model)
    handle.add("long", "prefix_tuning_flat", prefix_length=5)
    handle.add("short", "prefix_tuning_flat", prefix_length=2, leave_out=[1])
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data.zero_()
    with handle.using("batch(short: 1, long: 1)"), torch.no_grad():
        weights = model(input_ids=inputs(2, 9)["input_ids"], output_attentions=True).attentions[1][0]
    own = weights[..., 3:4]
    assert far(weights[..., :5] / own, torch.tensor([torch.e, torch.e, torch.e, 1, 1]).expand(4, 9, 5)) < 1e-5


def test_filling_scores_nothing_where_speech_has_no_mask() -> None:
    """Zero keys score what is added to them; an encoder of speech adds nothing, under eager attention either."""
    model = SMALL["whisper"].model(attn_implementation="eager", pad_token_id=0).eval()
    handle = adpm.attach(model)
    handle.add("long", "prefix_tuning_flat", prefix_length=5)
    handle.add("short", "prefix_tuning_flat", prefix_length=2)
    for parameter in handle.adapters["short"].parameters():
        parameter.data.zero_()
    with handle.using("batch(short: 1, long: 1)"), torch.no_grad():
        weights = model(**model_inputs("sound", rows=2), output_attentions=True).encoder_attentions[0][0]
    assert far(weights[..., :5] / weights[..., :1], torch.ones(*weights.shape[:2], 5)) < 1e-5
