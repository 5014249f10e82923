"""A base's directory: its shape from ``config.json``, its sketch from the weights, or an error that names the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from adpm import limits
from adpm.core.base import half, positions
from adpm.errors import AdpmError, DocumentError, NotFoundError
from adpm.formats.model import read_model
from adpm.formats.safetensors import read_header_of_file
from tests.making import make_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def test_shape_and_sketch(base: Path) -> None:
    shape, sketch = read_model(base)
    assert shape.model_type == "bert"
    assert sketch is not None
    assert sketch.dtype == "float32"
    weights = base / "model.safetensors"
    tensors = read_header_of_file(weights, source="x").tensors
    data = weights.read_bytes()
    sampled = [
        struct.unpack_from("<f", data, tensors[name].begin + 4 * flat)[0]
        for name, flat in positions({name: tensor.shape for name, tensor in tensors.items()})
    ]
    assert sketch.values == tuple(half(value) for value in sampled)
    assert len(sketch.values) == limits.SKETCH_SAMPLES


def test_other_weights_are_told_apart(base: Path, tmp_path: Path) -> None:
    shape, sketch = read_model(base)
    other_shape, other = read_model(make_base(tmp_path / "other", seed=1))
    assert shape == other_shape
    assert sketch is not None
    assert other is not None
    assert sketch.misfit(other) is not None


def test_shards_are_one_checkpoint(base: Path, tmp_path: Path) -> None:
    whole = read_model(base)
    (base / "model.safetensors").rename(base / "model-1-of-1.safetensors")
    index = {"weight_map": {"encoder.layer.0.output.dense.weight": "model-1-of-1.safetensors", "x": 7, "y": ["z"]}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert read_model(base) == whole


def test_a_missing_shard_is_named(base: Path) -> None:
    (base / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../gone.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(NotFoundError, match=r"lacks the weights in 'gone\.safetensors'") as caught:
        read_model(base)
    assert caught.value.code == "base-weights-missing"


def test_without_safetensors_there_is_no_sketch(base: Path) -> None:
    (base / "model.safetensors").unlink()
    shape, sketch = read_model(base)
    assert (shape.model_type, sketch) == ("bert", None)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (b"[]", ""),
        (b"", ""),
        (b"{}", "model_type"),
        (b'{"model_type":7}', "model_type"),
        (b'{"model_type":""}', "model_type"),
    ],
)
def test_a_config_that_names_no_model_is_refused(base: Path, config: bytes, path: str) -> None:
    (base / "config.json").write_bytes(config)
    with pytest.raises(DocumentError) as caught:
        read_model(base)
    assert caught.value.code == "base-config-invalid"
    assert [fault.path for fault in caught.value.faults] == [path]


@pytest.mark.parametrize("value", [None, "x", [1], {"a": "b"}, -1, 1e400, True])
def test_no_config_is_a_surprise(base: Path, value: Any) -> None:
    config = dict.fromkeys(("hidden_size", "dim", "num_attention_heads", "head_dim", "n_layer"), value)
    (base / "config.json").write_text(json.dumps({"model_type": "bert", **config}), encoding="utf-8")
    try:
        shape, _ = read_model(base)
    except AdpmError as error:
        code = error.code
    else:
        code = "base-config-invalid"
        assert shape.dimensions == ()
    assert code == "base-config-invalid"
