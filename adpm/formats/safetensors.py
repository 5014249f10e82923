"""The header of a safetensors file, read strictly and without torch: names, dtypes, shapes, where the bytes lie.

Stricter than the safetensors library: duplicate names, names that could be mistaken for paths or that would drive a
terminal, nesting, and more tensors than ``limits.SAFETENSORS_TENSORS`` are refused: ``specs/safetensors.md``.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adpm import limits
from adpm.errors import DocumentError, Fault

__all__ = ["DTYPE_BITS", "Header", "Tensor", "read_header", "read_header_of_file"]

_CODE: Final = "safetensors-invalid"
_INTEGERS: Final = {int}
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_KEYS: Final = frozenset({"dtype", "shape", "data_offsets"})
# Bits an element takes, by the format's own names.
DTYPE_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: ``begin`` and ``end`` are offsets in the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors by name in the order of their bytes; ``begin`` and ``end`` are the bounds of all data in the file."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    begin: int
    end: int


def read_header(data: bytes | bytearray | memoryview, *, source: str) -> Header:
    """The header of the file whose whole content is ``data``. Cost: the header's size, not the file's.

    Raises ``DocumentError`` (``safetensors-invalid``).
    """
    view = memoryview(data)
    size = _header_size(bytes(view[:8]), len(view), source)
    return _parse(bytes(view[8 : 8 + size]), len(view), source)


def read_header_of_file(path: Path, *, source: str) -> Header:
    """The header of the file at ``path``; its tensors' bytes are not read."""
    with path.open("rb") as file:
        total = path.stat().st_size
        size = _header_size(file.read(8), total, source)
        return _parse(file.read(size), total, source)


def _refuse(source: str, why: str) -> DocumentError:
    return DocumentError(_CODE, source, [Fault("", why)])


def _header_size(prefix: bytes, total: int, source: str) -> int:
    if len(prefix) < 8:
        raise _refuse(source, f"has {total} bytes, too few for a safetensors file")
    size: int = struct.unpack("<Q", prefix)[0]
    if size > limits.SAFETENSORS_HEADER_BYTES:
        raise _refuse(source, f"has a header of {size} bytes, at most {limits.SAFETENSORS_HEADER_BYTES} are allowed")
    if size > total - 8:
        raise _refuse(source, f"says its header has {size} bytes, but only {total - 8} follow")
    return size


def _parse(raw: bytes, total: int, source: str) -> Header:
    if raw.count(b'"data_offsets"') > limits.SAFETENSORS_TENSORS:
        raise _refuse(source, f"has more than {limits.SAFETENSORS_TENSORS} tensors")
    value = _load(raw, source)
    begin = 8 + len(raw)
    faults: list[Fault] = []
    metadata = _metadata(value.pop("__metadata__", None), faults)
    tensors = [tensor for name, entry in value.items() if (tensor := _tensor(name, entry, begin, total, faults))]
    if not faults:
        tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
        _check_cover(tensors, begin, total, faults)
    if faults:
        raise DocumentError(_CODE, source, faults[: limits.DOCUMENT_FAULTS])
    return Header({tensor.name: tensor for tensor in tensors}, metadata, begin, total)


def _load(raw: bytes, source: str) -> dict[str, Any]:
    """The header's JSON object. ``formats.json`` in short, for headers are read by the hundred: what it would refuse
    beyond this (large numbers, depth, fractions, surrogates) the checks of the parts refuse."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _refuse(source, f"its header is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _refuse(source, "its header nests too deep") from None
    except ValueError as error:
        raise _refuse(source, f"its header is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise _refuse(source, "its header is not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:80]!r} is there twice")
    return out


def _metadata(value: object, faults: list[Fault]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(map(_is_text, (*value, *value.values()))):
        faults.append(Fault("__metadata__", "is not a mapping of texts"))
        return {}
    return value


def _is_text(value: object) -> bool:
    """A text without lone surrogates, which no encoding can write."""
    return isinstance(value, str) and _SURROGATES.search(value) is None


def _tensor(name: str, entry: Any, begin: int, total: int, faults: list[Fault]) -> Tensor | None:
    fault = _name_fault(name) or _entry_fault(entry)
    if fault is None:
        dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        elements = math.prod(shape)
        if elements > limits.INTEGER_MAX:
            fault = "its shape overflows"
        elif elements * DTYPE_BITS[dtype] != (last - first) * 8:
            fault = f"its shape {shape} of {dtype} does not take the {last - first} bytes it has"
        elif begin + last > total:
            fault = f"ends at byte {begin + last} of a file of {total} bytes"
        else:
            return Tensor(name, dtype, tuple(shape), begin + first, begin + last)
    faults.append(Fault(name[:80], fault))
    return None


def _name_fault(name: str) -> str | None:
    if not name or len(name) > limits.TENSOR_NAME_CHARACTERS:
        return f"its name has {len(name)} characters, from 1 to {limits.TENSOR_NAME_CHARACTERS} are allowed"
    if not name.isprintable() or "\\" in name:
        return "its name has control characters or backslashes"
    if "/" in name and any(part in ("", ".", "..") for part in name.split("/")):
        return "its name reads like a path that leaves its directory"
    return None


def _entry_fault(entry: object) -> str | None:
    """What is wrong with a tensor's description, before its sizes are compared. Called once a tensor: it is lean."""
    if type(entry) is not dict or entry.keys() != _KEYS:
        return "is not described by dtype, shape and data_offsets"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPE_BITS:
        return f"has the unknown dtype {str(dtype)[:40]!r}"
    if type(shape) is not list or type(offsets) is not list or len(offsets) != 2:
        return "its shape and its data_offsets are no lists of sizes"
    numbers = shape + offsets
    if set(map(type, numbers)) != _INTEGERS or not 0 <= min(numbers) <= max(numbers) <= limits.INTEGER_MAX:
        return "its shape or its data_offsets are no whole numbers"
    if offsets[0] > offsets[1] or len(shape) > limits.TENSOR_DIMENSIONS:
        return f"its data_offsets are no range, or it has more than {limits.TENSOR_DIMENSIONS} dimensions"
    return None


def _check_cover(tensors: list[Tensor], begin: int, total: int, faults: list[Fault]) -> None:
    """Every byte after the header belongs to exactly one tensor; ``tensors`` are sorted."""
    place = begin
    for tensor in tensors:
        if tensor.begin != place:
            which = "overlaps the tensor before it" if tensor.begin < place else "leaves a hole before it"
            faults.append(Fault(tensor.name[:80], which))
            return
        place = tensor.end
    if place != total:
        faults.append(Fault("", f"has {total - place} bytes that belong to no tensor"))
