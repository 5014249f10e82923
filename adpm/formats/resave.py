"""A safetensors file in the one spelling that depends on its tensors alone, not on the library that wrote it."""

from __future__ import annotations

import struct
from typing import Final

from adpm.formats.json import canonical
from adpm.formats.safetensors import DTYPE_BITS, read_header

__all__ = ["resave"]

_METADATA: Final = {"format": "pt"}  # which is what the peers write and some readers ask for


def resave(data: bytes, *, source: str) -> bytes:
    """The tensors of ``data``: wide dtypes first, then by name; the header canonical, and padded to 8 bytes.

    Raises ``DocumentError`` (``safetensors-invalid``).
    """
    tensors = sorted(
        read_header(data, source=source).tensors.values(), key=lambda tensor: (-DTYPE_BITS[tensor.dtype], tensor.name)
    )
    head: dict[str, object] = {"__metadata__": _METADATA}
    place = 0
    for tensor in tensors:
        size = tensor.end - tensor.begin
        head[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [place, place + size]}
        place += size
    raw = canonical(head)
    raw += b" " * (-len(raw) % 8)
    return b"".join([struct.pack("<Q", len(raw)), raw, *(data[tensor.begin : tensor.end] for tensor in tensors)])
