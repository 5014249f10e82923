"""Malformed safetensors files through adpm's own header check."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Final

import pytest

from adpm.errors import AdpmError, DocumentError
from adpm.formats.safetensors import Header, read_header, read_header_of_file
from tests.hostile.corpus import HOSTILE, cases, needs

_FOLDER: Final = "safetensors/malformed"
_FILES: Final = cases(_FOLDER, "*.safetensors")
# Well formed for adpm: what is wrong with them is not in the header (a value), or only where it is shown.
_READ: Final = {"x_nan.safetensors", "x_meta_html.safetensors"}


def _expected(path: Path) -> str:
    expect = {name: wanted for name, _, wanted, _ in json.loads((HOSTILE / _FOLDER / "EXPECT.json").read_bytes())}
    return "accept" if path.name in _READ else "reject" if path.name.startswith("x_") else str(expect[path.name])


def _read(path: Path) -> Header:
    return read_header_of_file(path, source=path.name)


@needs(_FOLDER)
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_the_header_check_decides_as_expected(path: Path) -> None:
    if _expected(path) == "accept":
        assert _read(path) == read_header(path.read_bytes(), source=path.name)
        return
    with pytest.raises(DocumentError) as caught:
        _read(path)
    assert caught.value.code == "safetensors-invalid"
    assert caught.value.source == path.name
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    with pytest.raises(DocumentError):
        read_header(path.read_bytes(), source=path.name)


@needs(_FOLDER)
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_memory_follows_the_size_of_the_file(path: Path) -> None:
    tracemalloc.start()
    try:
        _read(path)
    except AdpmError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < path.stat().st_size + (64 << 20)


@needs(_FOLDER)
@pytest.mark.parametrize("path", cases(_FOLDER, "x_*.safetensors"), ids=lambda path: path.name)
def test_what_is_shown_is_escaped(path: Path) -> None:
    try:
        shown = "".join(_read(path).tensors)
    except AdpmError as error:
        shown = str(error).replace("\n", "")
    assert shown.isprintable()


_PROGRAM: Final = """
import sys
from pathlib import Path
from adpm.errors import AdpmError
from adpm.formats.safetensors import read_header_of_file
for name in sys.argv[1:]:
    try:
        read_header_of_file(Path(name), source=name)
    except AdpmError:
        pass
"""


@needs(_FOLDER)
def test_no_file_hangs_the_reader() -> None:
    """All of them together, in a process that would be ended: a guard against hanging, not a measurement."""
    subprocess.run([sys.executable, "-c", _PROGRAM, *map(str, _FILES)], check=True, timeout=120)
