"""A base's identity as JSON, in cards, locks and indexes; and read from a model's directory without loading weights.

The grammar and the sampling rule are in ``specs/base.md``.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import replace
from typing import Any, Final

from adpm import limits
from adpm.core.base import DIMENSIONS, BaseIdentity, Shape, Sketch
from adpm.core.names import Digest
from adpm.formats.reader import Fields, Node, integer, one_of, parsed, text

__all__ = ["base_node", "base_value", "locked_base_node"]

_DTYPES: Final = ("float64", "float32", "float16", "bfloat16")
_HALF_MAX: Final = 65504.0


def base_value(base: BaseIdentity) -> dict[str, Any]:
    """``base`` as the JSON object that ``base_node`` reads; parts that are not known are left out."""
    out: dict[str, Any] = {}
    if base.model is not None:
        out["model"] = base.model
    if base.revision is not None:
        out["revision"] = base.revision
    if base.shape is not None:
        out["shape"] = {"model_type": base.shape.model_type, **dict(base.shape.dimensions)}
    if base.sketch is not None:
        out["sketch"] = {"dtype": base.sketch.dtype, "values": _pack(base.sketch.values)}
    if base.tokenizer is not None:
        out["tokenizer"] = base.tokenizer
    return out


def base_node(node: Node) -> BaseIdentity:
    """Decode a base object."""
    fields = node.fields()
    base = _base(fields)
    fields.close()
    return base


def locked_base_node(node: Node) -> BaseIdentity:
    """Decode a base object of a lock, which may have the tokenizer's digest."""
    fields = node.fields()
    base = replace(_base(fields), tokenizer=fields.get("tokenizer", parsed(Digest.parse)))
    fields.close()
    return base


def _base(fields: Fields) -> BaseIdentity:
    return BaseIdentity(
        model=fields.get("model", text),
        revision=fields.get("revision", text),
        shape=fields.get("shape", _shape),
        sketch=fields.get("sketch", _sketch),
    )


def _shape(node: Node) -> Shape:
    fields = node.fields()
    model_type = fields.need("model_type", text)
    sizes = {name: fields.get(name, integer(1)) for name in DIMENSIONS}
    fields.close()
    return Shape(model_type, tuple(sorted((name, size) for name, size in sizes.items() if size is not None)))


def _sketch(node: Node) -> Sketch:
    fields: Fields = node.fields()
    sketch = Sketch(dtype=fields.need("dtype", one_of(*_DTYPES)), values=fields.need("values", _unpack))
    fields.close()
    return sketch


def _pack(values: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}e", *values)).decode("ascii")


def _unpack(node: Node) -> tuple[float, ...]:
    try:
        raw = base64.b64decode(text(node), validate=True)
    except (binascii.Error, ValueError):
        node.fail("is not base64")
    if len(raw) != 2 * limits.SKETCH_SAMPLES:
        node.fail(f"holds {len(raw) // 2} values, expected {limits.SKETCH_SAMPLES}")
    values: tuple[float, ...] = struct.unpack(f"<{limits.SKETCH_SAMPLES}e", raw)
    if not all(abs(value) <= _HALF_MAX for value in values):
        node.fail("holds values that are not finite")
    return values
