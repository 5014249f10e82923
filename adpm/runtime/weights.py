"""The tensors of a safetensors file, bound to its bytes and not copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from adpm.formats.safetensors import DTYPE_BITS, Header, read_header
from adpm.formats.safetensors import Tensor as Entry
from adpm.store.mapped import mapped

__all__ = ["DTYPES", "WHOLE", "Buffer", "Weights", "map_file"]

Buffer = bytes | bytearray | memoryview
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
WHOLE: Final[Mapping[str, torch.dtype]] = {  # of whole numbers, where a method has such
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
_ALL: Final = {**DTYPES, **WHOLE}


def map_file(path: Path) -> memoryview:
    """The file's content, mapped: pages are read when they are used, and writing to them does not change the file."""
    with path.open("rb") as file:
        return mapped(file.fileno(), os.fstat(file.fileno()).st_size)


class Weights:
    """One file: its checked header and its bytes. Read-only bytes are copied once: torch has no read-only tensor."""

    def __init__(self, data: Buffer, source: str) -> None:
        self.header: Header = read_header(data, source=source)
        self.source = source
        view = memoryview(data)
        self._view = memoryview(bytearray(view)) if view.readonly else view

    def bind(self, entry: Entry) -> Tensor:
        """The tensor as it lies in the file; its bytes stay alive with it."""
        dtype, size = _ALL[entry.dtype], DTYPE_BITS[entry.dtype] // 8
        elements = (entry.end - entry.begin) // size
        if elements == 0:
            return torch.empty(entry.shape, dtype=dtype)
        if entry.begin % size:
            aligned = bytearray(self._view[entry.begin : entry.end])
            return torch.frombuffer(aligned, dtype=dtype).view(entry.shape)
        flat = torch.frombuffer(self._view, dtype=dtype, count=elements, offset=entry.begin)
        return flat if len(entry.shape) == 1 else flat.view(entry.shape)

    def nonfinite(self) -> list[str]:
        """The names of tensors with NaN or infinite values. Cost: one sum over the file where there are none."""
        header = self.header
        dtypes = {entry.dtype for entry in header.tensors.values()}
        if len(dtypes) == 1 and dtypes <= DTYPES.keys():
            dtype = dtypes.pop()
            elements = (header.end - header.begin) * 8 // DTYPE_BITS[dtype]
            if _finite(self.bind(Entry("", dtype, (elements,), header.begin, header.end))):
                return []
        entries = [entry for entry in header.tensors.values() if entry.dtype in DTYPES]
        return [entry.name for entry in entries if not torch.isfinite(self.bind(entry)).all()]


def _finite(values: Tensor) -> bool:
    """A finite sum has finite terms; another sum says nothing, for large terms may overflow."""
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    return bool(torch.isfinite(values.sum(dtype=wide)))
