"""Reading data frames of an R package's lazy-load database without R."""

from __future__ import annotations

import gzip
import lzma
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import rdata


def read(base: Path, *names: str) -> list[list[tuple[str, str]]]:
    """The (review, score) rows of the frames ``names`` in the database ``base``.rdx and ``base``.rdb.

    The index says where in the .rdb each object lies: a big-endian length of what follows unpacked, then, where the
    packing is not plain zlib, one letter for it (``Z``: LZMA2 without a header). Source: R's ``lazyload.c``.
    """
    index = _parse(gzip.decompress(base.with_suffix(".rdx").read_bytes()))
    places = {str(name): [int(number) for number in place] for name, place in index["variables"].items()}
    objects = base.with_suffix(".rdb").read_bytes()
    out = []
    for name in names:
        start, length = places[name]
        frame = _parse(_unpack(objects[start : start + length]))
        out.append([(str(review), str(score)) for review, score in zip(frame["review"], frame["score"], strict=True)])
    return out


def _parse(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rdata says that it takes a bare object for RDS, which it is
        return rdata.conversion.convert(rdata.parser.parse_data(data))


def _unpack(packed: bytes) -> bytes:
    (size,) = struct.unpack(">I", packed[:4])
    if packed[4:5] == b"Z":
        raw = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
        data = raw.decompress(packed[5:])
    else:
        data = zlib.decompress(packed[4:])
    if len(data) != size:
        raise ValueError(f"the object unpacks to {len(data)} bytes, its header says {size}")
    return data
