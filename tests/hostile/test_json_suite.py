"""JSONTestSuite through adpm's JSON parser and through every reader of a JSON format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from adpm import limits
from adpm.core.names import PackageName
from adpm.errors import AdpmError, DocumentError
from adpm.formats.adapterhub import read_adapter_config
from adpm.formats.adapterhub_heads import read_head_config
from adpm.formats.card import read_card
from adpm.formats.json import canonical, parse_json
from adpm.formats.lock import read_lock
from adpm.formats.manifest import read_manifest
from adpm.formats.oci import read_index, read_release
from adpm.formats.peft import read_peft_config
from adpm.formats.safetensors import read_header
from tests.hostile.corpus import cases, needs

_PARSING: Final = "JSONTestSuite/test_parsing"
_TRANSFORM: Final = "JSONTestSuite/test_transform"
_DUPLICATE_KEYS: Final = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}
_READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "card": lambda data: read_card(data, "x.json"),
    "lock": lambda data: read_lock(data, "x.json"),
    "index": lambda data: read_index(data, PackageName("a"), "x.json"),
    "release": lambda data: read_release(data, "x.json"),
    "manifest": lambda data: read_manifest(data, "x.json"),
    "adapter config": lambda data: read_adapter_config(data, source="x.json"),
    "head config": lambda data: read_head_config(data, source="x.json"),
    "peft config": lambda data: read_peft_config(data, source="x.json"),
    "safetensors": lambda data: read_header(len(data).to_bytes(8, "little") + data, source="x.json"),
}


def _parse(path: Path) -> Any:
    return parse_json(path.read_bytes(), source=path.name, code="x-invalid", limit=limits.LOCK_BYTES)


def _clean(error: AdpmError) -> bool:
    """Nothing in the message can drive a terminal, and it is no flood."""
    message = f"{error}\n{error.hint}"
    return all(line.isprintable() for line in message.split("\n")) and len(message) < 20_000


@needs(_PARSING)
@pytest.mark.parametrize("path", cases(_PARSING, "n_*"), ids=lambda path: path.name)
def test_what_is_not_json_is_refused(path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        _parse(path)
    assert caught.value.source == path.name
    assert _clean(caught.value)


@needs(_PARSING)
@pytest.mark.parametrize("path", cases(_PARSING, "y_*"), ids=lambda path: path.name)
def test_what_is_json_is_read(path: Path) -> None:
    if path.name in _DUPLICATE_KEYS:
        with pytest.raises(DocumentError, match="twice in one object"):
            _parse(path)
    else:
        value = _parse(path)
        assert parse_json(canonical(value), source="again", code="x", limit=limits.LOCK_BYTES) == value


@needs(_PARSING)
@pytest.mark.parametrize("path", cases(_PARSING, "i_*") + cases(_TRANSFORM, "*.json"), ids=lambda path: path.name)
def test_what_readers_disagree_about_is_read_or_refused(path: Path) -> None:
    try:
        value = _parse(path)
    except DocumentError as refused:
        clean = _clean(refused)
    else:
        clean = parse_json(canonical(value), source="again", code="x", limit=limits.LOCK_BYTES) == value
    assert clean


@needs(_PARSING)
@pytest.mark.parametrize("reader", _READERS)
@pytest.mark.parametrize("path", cases(_PARSING, "*.json") + cases(_TRANSFORM, "*.json"), ids=lambda path: path.name)
def test_no_reader_is_surprised(path: Path, reader: str) -> None:
    """Whatever is in a file, a reader returns or raises one of adpm's errors."""
    try:
        _READERS[reader](path.read_bytes())
    except AdpmError as error:
        clean = _clean(error)
    else:
        clean = True
    assert clean
