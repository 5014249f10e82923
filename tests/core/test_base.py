"""Base identity: shape, sketch, positions: ``specs/base.md``."""

from __future__ import annotations

import math
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adpm import limits
from adpm.core.base import (
    DIMENSIONS,
    BaseIdentity,
    Shape,
    Sketch,
    canonical_weight,
    half,
    positions,
    shape_of_config,
)
from tests import strategies

_BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def _sketch(scale: float = 1.0, dtype: str = "float32", noise: float = 0.0) -> Sketch:
    source = random.Random(0)
    return Sketch(
        dtype,
        tuple(
            scale * source.gauss(0.0, 0.05) * (1 + (noise if i % 2 else -noise)) for i in range(limits.SKETCH_SAMPLES)
        ),
    )


def test_shape_of_a_bert_config() -> None:
    assert shape_of_config(_BERT) == Shape(
        "bert",
        (("hidden_size", 384), ("intermediate_size", 1536), ("num_attention_heads", 12), ("num_hidden_layers", 6)),
    )


@pytest.mark.parametrize(
    ("config", "dimensions"),
    [
        ({"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072}, (768, 3072, 12, 6)),
        ({"n_embd": 768, "n_layer": 6, "n_head": 12, "n_inner": 3072}, (768, 3072, 12, 6)),
        (
            {"d_model": 768, "encoder_layers": 6, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072},
            (768, 3072, 12, 6),
        ),
    ],
)
def test_families_name_the_same_dimensions_differently(config: dict[str, Any], dimensions: tuple[int, ...]) -> None:
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    assert shape_of_config({"model_type": "x", **config}).dimensions == tuple(zip(names, dimensions, strict=True))


@pytest.mark.parametrize("implied", [{"num_key_value_heads": 12}, {"head_dim": 32}, {"num_decoder_layers": None}])
def test_what_is_implied_does_not_tell_bases_apart(implied: dict[str, Any]) -> None:
    assert shape_of_config({**_BERT, **implied}) == shape_of_config(_BERT)


@pytest.mark.parametrize("value", [True, "384", 384.0, 0, -1, 1 << 53, None, [384]])
def test_what_is_no_size_is_ignored(value: object) -> None:
    assert shape_of_config({"model_type": "bert", "hidden_size": value}).dimensions == ()


def test_grouped_heads_count() -> None:
    grouped = shape_of_config({**_BERT, "num_key_value_heads": 4, "head_dim": 64})
    assert dict(grouped.dimensions)["num_key_value_heads"] == 4
    assert dict(grouped.dimensions)["head_dim"] == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"model_type": "roberta"}, "trained for model type bert; the project's base is roberta"),
        ({"hidden_size": 768}, "trained for hidden size 384; the project's base has 768"),
        (
            {"hidden_size": 768, "num_hidden_layers": 12},
            "trained for hidden size 384, 6 layers; the project's base has 768, 12",
        ),
        ({"num_key_value_heads": 4}, "trained for key-value heads unset; the project's base has 4"),
    ],
)
def test_shape_misfit_says_the_numbers(change: dict[str, Any], reason: str | None) -> None:
    assert shape_of_config(_BERT).misfit(shape_of_config({**_BERT, **change})) == reason


@given(strategies.shapes)
def test_a_shape_fits_itself(shape: Shape) -> None:
    assert shape.misfit(shape) is None


@given(strategies.shapes, strategies.shapes)
def test_shapes_fit_both_ways_or_not_at_all(one: Shape, other: Shape) -> None:
    assert (one.misfit(other) is None) == (other.misfit(one) is None) == (one == other)


@pytest.mark.parametrize(
    ("mine", "theirs", "tolerance"),
    [
        ("float32", "float32", 1e-3),
        ("float64", "float32", 1e-3),
        ("float32", "float16", 1e-3),
        ("float32", "bfloat16", 5e-3),
        ("bfloat16", "float16", 5e-3),
        ("bfloat16", "bfloat16", 5e-3),
    ],
)
def test_tolerance_follows_the_coarser_dtype(mine: str, theirs: str, tolerance: float) -> None:
    assert _sketch(dtype=mine).tolerance(_sketch(dtype=theirs)) == tolerance
    assert _sketch(dtype=theirs).tolerance(_sketch(dtype=mine)) == tolerance


@pytest.mark.parametrize(
    ("noise", "dtype", "fits"),
    [
        (0.0, "float32", True),
        (0.0002, "float16", True),  # measured: an fp16 cast
        (0.0016, "bfloat16", True),  # measured: a bf16 cast
        (0.0016, "float32", False),
        (0.014, "float32", False),  # measured: a fine-tuned sibling
        (0.014, "bfloat16", False),
    ],
)
def test_a_cast_fits_and_a_sibling_does_not(noise: float, dtype: str, fits: bool) -> None:
    base, other = _sketch(), _sketch(dtype=dtype, noise=noise)
    assert math.isclose(base.distance(other), noise, rel_tol=1e-6, abs_tol=1e-12)
    assert (base.misfit(other) is None) == fits


def test_sketch_misfit_says_the_numbers() -> None:
    assert _sketch().misfit(_sketch(noise=0.014)) == (
        "trained on other weights: sampled weights differ by 1.40%, at most 0.10% is rounding"
    )


@given(strategies.sketches)
def test_distance_to_itself_is_zero(sketch: Sketch) -> None:
    assert sketch.distance(sketch) == 0.0


@given(st.floats(min_value=0.25, max_value=4.0))
def test_distance_is_relative(scale: float) -> None:
    one, other = _sketch(), _sketch(noise=0.01)
    assert math.isclose(one.distance(other), _sketch(scale).distance(_sketch(scale, noise=0.01)), rel_tol=1e-9)


def test_sketches_that_cannot_be_compared_are_infinitely_far() -> None:
    zeros = Sketch("float32", (0.0,) * limits.SKETCH_SAMPLES)
    assert zeros.distance(zeros) == 0.0
    assert zeros.distance(_sketch()) == math.inf
    assert _sketch().distance(Sketch("float32", (1.0,))) == math.inf


@given(st.floats(allow_nan=False))
def test_half_is_idempotent_and_in_range(value: float) -> None:
    assert half(half(value)) == half(value)
    assert abs(half(value)) <= 65504.0


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("bert.encoder.layer.0.output.dense.weight", "encoder.layer.0.output.dense.weight"),
        ("encoder.layer.0.output.dense.weight", "encoder.layer.0.output.dense.weight"),
        ("distilbert.transformer.layer.3.ffn.lin1.weight", "layer.3.ffn.lin1.weight"),
        ("transformer.h.11.attn.c_attn.weight", "h.11.attn.c_attn.weight"),
        ("model.layers.2.mlp.up_proj.weight", "layers.2.mlp.up_proj.weight"),
        ("decoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"),
        ("bert.encoder.layer.0.output.dense.bias", None),
        ("embeddings.word_embeddings.weight", None),
        ("pooler.0.weight", None),
        ("encoder.layer.0.output.dense.weights", None),
        ("weight", None),
        ("", None),
    ],
)
def test_canonical_weight(name: str, canonical: str | None) -> None:
    assert canonical_weight(name) == canonical


def test_canonical_weight_is_linear_in_the_name() -> None:
    """Quadratic matching of this name would take hours."""
    assert canonical_weight("a.0" * 1_000_000) is None
    assert canonical_weight(".a" * 1_000_000 + ".weight") is None


def _weights(prefix: str) -> dict[str, tuple[int, ...]]:
    out: dict[str, tuple[int, ...]] = {f"{prefix}embeddings.word_embeddings.weight": (100, 8)}
    for layer in range(3):
        for part, shape in {"attention.query": (8, 8), "intermediate": (32, 8), "output": (8, 32)}.items():
            out[f"{prefix}encoder.layer.{layer}.{part}.dense.weight"] = shape
            out[f"{prefix}encoder.layer.{layer}.{part}.dense.bias"] = (shape[0],)
    return out


def test_positions_do_not_depend_on_prefix_order_or_head() -> None:
    bare = positions(_weights(""))
    turned = dict(reversed(_weights("bert.").items()))
    headed = positions({**turned, "classifier.weight": (2, 8), "cls.predictions.bias": (100,)})
    assert [(name.removeprefix("bert."), flat) for name, flat in headed] == bare


def test_positions_are_in_range_and_spread_over_all_matrices() -> None:
    weights = _weights("")
    chosen = positions(weights)
    assert len(chosen) == limits.SKETCH_SAMPLES
    assert {name for name, _ in chosen} == {n for n in weights if "layer" in n and n.endswith("weight")}
    assert all(0 <= flat < math.prod(weights[name]) for name, flat in chosen)


def test_positions_are_the_published_ones() -> None:
    """The rule of ``specs/base.md``, worked by hand for the first sample of one matrix."""
    name = "encoder.layer.0.a.weight"
    digest = "54e8d461f82c60a5"  # the first 8 bytes of sha256("encoder.layer.0.a.weight:0")
    assert positions({name: (10, 10)})[0] == (name, int(digest, 16) % 100)


def test_no_positions_without_layers() -> None:
    assert positions({}) == []
    assert positions({"embeddings.weight": (10, 10), "layer.0.x.weight": (10,), "layer.1.x.weight": (0, 10)}) == []


def test_base_misfit_prefers_shape_then_sketch_then_name() -> None:
    shape, other = shape_of_config(_BERT), shape_of_config({**_BERT, "hidden_size": 768})
    nothing = BaseIdentity(None, None, None, None)
    trained = BaseIdentity("a", None, shape, _sketch())
    assert trained.misfit(trained) is None
    assert trained.misfit(nothing) is None
    assert nothing.misfit(trained) is None
    assert trained.misfit(BaseIdentity("b", "r", shape, _sketch(dtype="float16"))) is None
    assert "hidden size" in str(trained.misfit(BaseIdentity("a", None, other, _sketch())))
    assert "other weights" in str(trained.misfit(BaseIdentity("a", None, shape, _sketch(noise=0.014))))
    assert BaseIdentity("a", None, None, None).misfit(BaseIdentity("b", None, shape, None)) == (
        "trained for a; the project's base is b"
    )


def test_every_dimension_has_words() -> None:
    for name in DIMENSIONS:
        one, other = Shape("x", ((name, 1),)), Shape("x", ((name, 2),))
        assert re.search(r" 1\b.*; the project's base has 2", str(one.misfit(other)))
