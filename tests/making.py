"""Small adapters and bases for tests, as files that the peers would write, made without torch."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["make_adapter", "make_base", "write_safetensors"]


def write_safetensors(path: Path, tensors: Mapping[str, Sequence[int]], seed: int = 0) -> None:
    """A float32 safetensors file with random values in (-1, 1); ``tensors`` maps names to shapes."""
    chance = random.Random(seed)
    header: dict[str, Any] = {}
    body = b""
    for name, shape in sorted(tensors.items()):
        count = 1
        for dimension in shape:
            count *= dimension
        data = struct.pack(f"<{count}f", *(chance.uniform(-1, 1) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    raw = json.dumps(header, sort_keys=True).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


def make_base(directory: Path, *, seed: int = 0, hidden: int = 32, layers: int = 2) -> Path:
    """A BERT checkpoint: its config and the matrices of its layers."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "vocab_size": 100,
        "max_position_embeddings": 64,
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {f"encoder.layer.{i}.output.dense.weight": (hidden, 2 * hidden) for i in range(layers)}
    write_safetensors(directory / "model.safetensors", tensors, seed)
    return directory


def make_adapter(
    directory: Path,
    name: str = "text/sst-2",
    version: str = "1.0",
    *,
    base: Path,
    requires: Sequence[str] = (),
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    called: str = "task",
    **header: Any,
) -> Path:
    """A Pfeiffer adapter in AdapterHub's format, with the ``adapter.yaml`` that publishes it.

    ``called``: its name in its own files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    units = hidden // 16
    tensors: dict[str, tuple[int, ...]] = {}
    for i in range(layers):
        prefix = f"bert.encoder.layer.{i}.output.adapters.{called}"
        tensors |= {
            f"{prefix}.adapter_down.0.weight": (units, hidden),
            f"{prefix}.adapter_down.0.bias": (units,),
            f"{prefix}.adapter_up.weight": (hidden, units),
            f"{prefix}.adapter_up.bias": (hidden,),
        }
    write_safetensors(directory / "adapter.safetensors", tensors, seed)
    config = {
        "config": {
            "mh_adapter": False,
            "output_adapter": True,
            "reduction_factor": 16,
            "non_linearity": "relu",
            "original_ln_before": True,
            "original_ln_after": True,
        },
        "hidden_size": hidden,
        "model_class": "BertModel",
        "model_name": "tiny",
        "model_type": "bert",
        "name": called,
        "version": "adapters.1.3.0",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    package = {"name": name, "version": version, **header}
    if requires:
        package["requires"] = list(requires)
    manifest = {"base": {"model": "test/tiny", "path": str(base)}, "package": package}
    (directory / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    return directory
