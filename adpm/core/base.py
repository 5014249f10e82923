"""Which model an adapter fits: a base's *shape* decides whether tensors fit, its *sketch* if it is the same weights.

A sketch is ``limits.SKETCH_SAMPLES`` weight values at fixed positions. Two sketches are compared by relative RMS
with a tolerance that follows the coarser of the two dtypes: a bf16 cast of a model (0.16 %) still matches, a fine-tuned
sibling of the same shape (1.4 % for the closest pair we know) does not. ``specs/base.md`` is the normative text.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adpm import limits
from adpm.core.names import Digest

__all__ = ["DIMENSIONS", "BaseIdentity", "Shape", "Sketch", "canonical_weight", "half", "positions", "shape_of_config"]

# What each dimension is called in the config.json of the families we know; the first that is there counts.
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "d_model", "dim", "n_embd"),
    "num_hidden_layers": ("num_hidden_layers", "encoder_layers", "num_layers", "n_layers", "n_layer"),
    "num_decoder_layers": ("num_decoder_layers", "decoder_layers"),
    "num_attention_heads": ("num_attention_heads", "encoder_attention_heads", "num_heads", "n_heads", "n_head"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim", "d_kv"),
    "intermediate_size": ("intermediate_size", "encoder_ffn_dim", "d_ff", "hidden_dim", "n_inner"),
}
_WORDS: Final[Mapping[str, str]] = {
    "hidden_size": "hidden size",
    "num_hidden_layers": "layers",
    "num_decoder_layers": "decoder layers",
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "key-value heads",
    "head_dim": "head dimension",
    "intermediate_size": "intermediate size",
}
_COUNTS: Final = frozenset(name for name in _WORDS if name.startswith("num_"))
_HALF_MAX: Final = 65504.0
# Relative RMS that rounding to the dtype can cause, with a margin of three.
_TOLERANCE: Final[Mapping[str, float]] = {"float64": 1e-3, "float32": 1e-3, "float16": 1e-3, "bfloat16": 5e-3}


@dataclass(frozen=True, slots=True)
class Shape:
    """``model_type`` as transformers has it, and the dimensions on which the shapes of adapter tensors depend."""

    model_type: str
    dimensions: tuple[tuple[str, int], ...]  # sorted by name

    def misfit(self, other: Shape) -> str | None:
        """Why an adapter for ``self`` can't fit a model of shape ``other``, in numbers; None where it can."""
        if self.model_type != other.model_type:
            return f"trained for model type {self.model_type}; the project's base is {other.model_type}"
        mine, theirs = dict(self.dimensions), dict(other.dimensions)
        differing = [name for name in DIMENSIONS if mine.get(name) != theirs.get(name)]
        if not differing:
            return None
        trained = ", ".join(_told(name, mine.get(name)) for name in differing)
        return f"trained for {trained}; the project's base has " + ", ".join(
            str(theirs.get(name, "unset")) for name in differing
        )


def _told(name: str, value: int | None) -> str:
    """``24 layers``, ``hidden size 1024``, ``layers unset``."""
    if name in _COUNTS and value is not None:
        return f"{value} {_WORDS[name] if value > 1 else _WORDS[name].removesuffix('s')}"
    return f"{_WORDS[name]} {'unset' if value is None else value}"


def shape_of_config(config: Mapping[str, Any]) -> Shape:
    """The shape from a transformers ``config.json`` (or ``config.to_dict()``); unknown families keep what they name."""
    found: dict[str, int] = {}
    for name, keys in DIMENSIONS.items():
        values = (config.get(key) for key in keys)
        value = next((v for v in values if type(v) is int and 0 < v <= limits.INTEGER_MAX), None)
        if value is not None:
            found[name] = value
    # A config that leaves these out means these values: stating them makes the two spellings equal.
    if "num_key_value_heads" in found and found["num_key_value_heads"] == found.get("num_attention_heads"):
        del found["num_key_value_heads"]
    heads = found.get("num_attention_heads")
    if heads and found.get("head_dim") == found.get("hidden_size", 0) // heads:
        found.pop("head_dim", None)
    return Shape(str(config.get("model_type", "")), tuple(sorted(found.items())))


@dataclass(frozen=True, slots=True)
class Sketch:
    """Sampled weights of a base: ``dtype`` of the weights sampled, values rounded to float16, in sampling order."""

    dtype: str
    values: tuple[float, ...]

    def distance(self, other: Sketch) -> float:
        """Relative RMS difference; 0 for the same weights, infinite where the samples can't be compared."""
        if len(self.values) != len(other.values):
            return math.inf
        norm = math.fsum(v * v for v in self.values)
        if norm == 0.0:
            return 0.0 if self.values == other.values else math.inf
        return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(self.values, other.values, strict=True)) / norm)

    def tolerance(self, other: Sketch) -> float:
        return max(_TOLERANCE.get(self.dtype, 1e-3), _TOLERANCE.get(other.dtype, 1e-3))

    def misfit(self, other: Sketch) -> str | None:
        distance, tolerance = self.distance(other), self.tolerance(other)
        if distance <= tolerance:
            return None
        return (
            f"trained on other weights: sampled weights differ by {distance:.2%}, at most {tolerance:.2%} is rounding"
        )


def half(value: float) -> float:
    """``value`` rounded to float16, as sketches hold it; beyond its range the nearest end."""
    clamped = max(-_HALF_MAX, min(_HALF_MAX, value))
    return float(struct.unpack("<e", struct.pack("<e", clamped))[0])


_LAYER: Final = re.compile(r"(?:^|\.)((?:(?:encoder|decoder)\.)?[A-Za-z_]+\.[0-9]+\.)")


def canonical_weight(name: str) -> str | None:
    """A layer's weight without the prefix that a model class with a head puts before it; None for other tensors.

    ``bert.encoder.layer.0.output.dense.weight`` and ``encoder.layer.0.output.dense.weight`` are one weight.
    """
    match = _LAYER.search(name.removesuffix(".weight"))
    return name[match.start(1) :] if match and name.endswith(".weight") else None


def positions(weights: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """Where a base is sampled: (tensor name, flat index), ``limits.SKETCH_SAMPLES`` of them.

    ``weights`` maps tensor names to shapes; only matrices inside layers count (``canonical_weight``). The positions
    depend on canonical names and shapes alone, so a file and a live model are sampled at the same places.
    Empty where the model has no such matrix.
    """
    matrices: dict[str, str] = {}
    for name in sorted(weights):
        canonical = canonical_weight(name)
        if canonical is not None and len(weights[name]) == 2 and math.prod(weights[name]) > 0:
            matrices.setdefault(canonical, name)
    ordered = sorted(matrices)
    chosen = []
    for i in range(limits.SKETCH_SAMPLES if ordered else 0):
        canonical = ordered[i * len(ordered) // limits.SKETCH_SAMPLES]
        size = math.prod(weights[matrices[canonical]])
        seed = hashlib.sha256(f"{canonical}:{i}".encode()).digest()
        chosen.append((matrices[canonical], int.from_bytes(seed[:8], "big") % size))
    return chosen


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """A base model as cards and locks name it. ``model`` and ``revision`` are for people; shape and sketch decide.

    ``tokenizer`` is the digest of the files that split texts into tokens. Only locks have it, and it excludes nothing:
    the same tokenizer may be written in several ways.
    """

    model: str | None
    revision: str | None
    shape: Shape | None
    sketch: Sketch | None
    tokenizer: Digest | None = None

    def misfit(self, project: BaseIdentity) -> str | None:
        """Why an adapter trained on ``self`` does not fit ``project``; None where nothing speaks against it."""
        if self.shape is not None and project.shape is not None:
            reason = self.shape.misfit(project.shape)
            if reason is not None:
                return reason
        if self.sketch is not None and project.sketch is not None:
            return self.sketch.misfit(project.sketch)
        if self.shape is None and self.model and project.model and self.model != project.model:
            return f"trained for {self.model}; the project's base is {project.model}"
        return None
