"""A base model's directory: its shape from ``config.json``, its sketch from the safetensors files.

Reads the headers and a few hundred values, never the whole weights.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from adpm import limits
from adpm.core.base import Shape, Sketch, half, positions, shape_of_config
from adpm.core.names import Digest
from adpm.errors import NotFoundError
from adpm.formats.json import canonical, open_json
from adpm.formats.reader import Node, text
from adpm.formats.safetensors import Tensor, read_header_of_file

__all__ = ["read_model", "read_tokenizer"]

_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_UNPACK: Final = {"F64": "<d", "F32": "<f", "F16": "<e"}
_COARSE_FIRST: Final = ("BF16", "F16", "F32", "F64")
_SINGLE: Final = "model.safetensors"
_SHARDED: Final = "model.safetensors.index.json"
# A tokenizer is the first of these sets of which a file is there.
_TOKENIZERS: Final = (
    ("tokenizer.json",),
    ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)


def read_model(directory: Path) -> tuple[Shape, Sketch | None]:
    """Shape and sketch of the transformers checkpoint in ``directory``.

    The sketch is None where the weights are no safetensors, or no floating-point numbers. Raises ``NotFoundError``
    (``base-config-missing``, ``base-weights-missing``) for files that are not there, ``DocumentError`` for files that
    break their format.
    """
    config = directory / "config.json"
    if not config.is_file():
        raise NotFoundError(
            "base-config-missing",
            f"{directory} has no config.json",
            hint="name a directory that transformers' save_pretrained wrote",
        )
    shape = shape_of_config(_json_object(config, need="model_type"))
    places = _places(directory)
    chosen = positions({name: tensor.shape for name, (_, tensor) in places.items()})
    dtypes = {places[name][1].dtype for name, _ in chosen}
    if not chosen or not dtypes <= _DTYPES.keys():
        return shape, None
    # The coarsest dtype decides how far rounding may have moved the values.
    dtype = min(dtypes, key=_COARSE_FIRST.index)
    values = tuple(half(_value(*places[name], flat)) for name, flat in chosen)
    return shape, Sketch(_DTYPES[dtype], values)


def read_tokenizer(directory: Path) -> Digest | None:
    """The digest of the tokenizer in ``directory``: of the canonical JSON of its files' digests; None without one."""
    for names in _TOKENIZERS:
        files = [directory / name for name in names if (directory / name).is_file()]
        if files:
            return Digest.of(canonical({file.name: _digest(file) for file in files}))
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _json_object(path: Path, need: str | None = None) -> Mapping[str, Any]:
    """The object in ``path``; with a text under the key ``need``, if that is given."""
    with path.open("rb") as file:
        data = file.read(limits.CONFIG_BYTES + 1)
    document = open_json(data, source=str(path), code="base-config-invalid", limit=limits.CONFIG_BYTES)
    fields = document.root.decode(Node.fields)
    if fields is not None and need is not None:
        fields.need(need, text)
    document.finish()
    return cast("Mapping[str, Any]", document.root.value)


def _places(directory: Path) -> dict[str, tuple[Path, Tensor]]:
    """Every tensor of the checkpoint with the file it lies in; empty where there are no safetensors."""
    if (directory / _SINGLE).is_file():
        files = [directory / _SINGLE]
    elif (directory / _SHARDED).is_file():
        weight_map = _json_object(directory / _SHARDED).get("weight_map")
        names = weight_map.values() if isinstance(weight_map, dict) else ()
        files = [directory / name for name in sorted({Path(n).name for n in names if isinstance(n, str)})]
    else:
        files = []
    out: dict[str, tuple[Path, Tensor]] = {}
    for file in files:
        if not file.is_file():
            raise NotFoundError(
                "base-weights-missing",
                f"{directory} lacks the weights in {file.name!r}",
                hint="copy or download the whole checkpoint",
            )
        header = read_header_of_file(file, source=str(file))
        out.update({name: (file, tensor) for name, tensor in header.tensors.items()})
    return out


def _value(path: Path, tensor: Tensor, flat: int) -> float:
    width = 8 if tensor.dtype == "F64" else 4 if tensor.dtype == "F32" else 2
    with path.open("rb") as file:
        file.seek(tensor.begin + flat * width)
        raw = file.read(width)
    if tensor.dtype == "BF16":
        return float(struct.unpack("<f", b"\0\0" + raw)[0])
    return float(struct.unpack(_UNPACK[tensor.dtype], raw)[0])
