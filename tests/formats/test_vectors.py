"""The vectors in ``specs/vectors`` through adpm's readers and through the JSON schemas in ``specs/schemas``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import referencing
import referencing.jsonschema

from adpm import limits
from adpm.core.names import PackageName
from adpm.core.release import Release
from adpm.errors import DocumentError
from adpm.formats.card import read_card, write_card
from adpm.formats.json import parse_json
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.manifest import read_manifest
from adpm.formats.oci import read_index, read_release, write_index
from adpm.formats.reader import Plain, flag, number
from adpm.formats.yaml import YamlDocument, open_yaml

_SPECS: Final = Path(__file__).parents[2] / "specs"
_VECTORS: Final = _SPECS / "vectors"


@dataclass(frozen=True)
class Format:
    """A reader, and the writer that gives back the bytes of every valid vector; None where none does."""

    read: Callable[[bytes, str], Any]
    write: Callable[[Any], bytes] | None = None


def _read_index(data: bytes, source: str) -> Any:
    return read_index(data, PackageName("text/sst-2"), source)


FORMATS: Final = {
    "card": Format(read_card, write_card),
    "lock": Format(read_lock, write_lock),
    "release": Format(read_release),  # the card's bytes are not in it: see test_roundtrip
    "index": Format(_read_index, write_index),
    "manifest": Format(read_manifest),
}
_REWRITTEN: Final = {"index/foreign-annotations.json", "index/bare.json"}  # a writer leaves out, or states, more


def _valid(suffix: str = "") -> list[str]:
    return [
        f"{name}/{path.name}"
        for name in FORMATS
        for path in sorted((_VECTORS / name / "valid").iterdir())
        if path.name.endswith(suffix) and (name != "manifest" or path.suffix == ".yaml")
    ]


def _expected() -> list[tuple[str, dict[str, Any]]]:
    out = []
    for name in FORMATS:
        expect = json.loads((_VECTORS / name / "invalid/expect.json").read_text(encoding="utf-8"))
        out += [(f"{name}/{file}", entry) for file, entry in expect.items()]
    return out


def _schema(name: str) -> jsonschema.protocols.Validator:
    resources = [
        (path.name, referencing.jsonschema.DRAFT202012.create_resource(json.loads(path.read_text(encoding="utf-8"))))
        for path in (_SPECS / "schemas").glob("*.schema.json")
    ]
    registry: referencing.jsonschema.SchemaRegistry = referencing.Registry().with_resources(resources)
    schema = {"$ref": f"{name}.schema.json"}
    return jsonschema.Draft202012Validator(schema, registry=registry)


_SCHEMAS: Final = {name: _schema(name) for name in FORMATS}


@pytest.mark.parametrize("vector", _valid())
def test_valid_vectors_are_read_and_written_back(vector: str) -> None:
    name, file = vector.split("/")
    data = (_VECTORS / name / "valid" / file).read_bytes()
    value = FORMATS[name].read(data, file)
    write = FORMATS[name].write
    if write is not None and vector not in _REWRITTEN:
        assert write(value) == data
    if write is not None:
        assert FORMATS[name].read(write(value), file) == value
    if isinstance(value, Release):
        assert value.manifest.size == len(data)


@pytest.mark.parametrize("vector", _valid(".json"))
def test_valid_vectors_fit_the_schema(vector: str) -> None:
    name, file = vector.split("/")
    _SCHEMAS[name].validate(json.loads((_VECTORS / name / "valid" / file).read_bytes()))


def _meant(document: YamlDocument, value: object, path: tuple[str | int, ...] = ()) -> Any:
    """The JSON value that a manifest says: scalars without quotes are texts, but for scores."""
    if isinstance(value, dict):
        return {key: _meant(document, child, (*path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [_meant(document, child, (*path, i)) for i, child in enumerate(value)]
    if isinstance(value, Plain) and path[-1:] in {("value",), ("exclude-undated",)}:
        node = document.root
        node.value = value
        return node.decode(number if path[-1] == "value" else flag)
    return None if value is None else str(value)


@pytest.mark.parametrize("vector", _valid(".yaml"))
def test_valid_manifests_say_what_their_json_says(vector: str) -> None:
    path = _VECTORS / "manifest/valid" / vector.split("/")[1]
    document = open_yaml(path.read_bytes(), source=path.name, code="manifest-invalid", limit=limits.MANIFEST_BYTES)
    said = json.loads(path.with_suffix(".json").read_bytes())
    assert _meant(document, document.root.value) == said
    _SCHEMAS["manifest"].validate(said)


@pytest.mark.parametrize(("vector", "expect"), _expected())
def test_invalid_vectors_are_refused_with_all_faults(vector: str, expect: dict[str, Any]) -> None:
    name, file = vector.split("/")
    data = (_VECTORS / name / "invalid" / file).read_bytes()
    with pytest.raises(DocumentError) as caught:
        FORMATS[name].read(data, file)
    assert caught.value.code == expect["code"]
    assert [fault.path for fault in caught.value.faults] == expect["paths"]
    assert caught.value.what.startswith(f"{file} is not valid (")


@pytest.mark.parametrize(("vector", "expect"), [(v, e) for v, e in _expected() if "schema" in e])
def test_the_schema_refuses_what_it_can(vector: str, expect: dict[str, Any]) -> None:
    name, file = vector.split("/")
    data = (_VECTORS / name / "invalid" / file).read_bytes()
    if name == "manifest":
        document = open_yaml(data, source=file, code="manifest-invalid", limit=limits.MANIFEST_BYTES)
        value = _meant(document, document.root.value)
    else:
        value = parse_json(data, source=file, code="x", limit=limits.LOCK_BYTES)
    assert _SCHEMAS[name].is_valid(value) != expect["schema"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_invalid_vector_has_its_expectation(name: str) -> None:
    folder = _VECTORS / name / "invalid"
    expect = json.loads((folder / "expect.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {"expect.json", *expect}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("card", limits.CARD_BYTES),
        ("lock", limits.LOCK_BYTES),
        ("release", limits.OCI_MANIFEST_BYTES),
        ("index", limits.INDEX_BYTES),
        ("manifest", limits.MANIFEST_BYTES),
    ],
)
def test_documents_beyond_their_limit_are_refused_unread(name: str, limit: int) -> None:
    with pytest.raises(DocumentError, match=f"has {limit + 1} bytes, at most {limit} are allowed"):
        FORMATS[name].read(b" " * (limit + 1), "large")


def test_schemas_state_the_limits() -> None:
    def load(name: str) -> Any:
        return json.loads((_SPECS / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))

    words, card, release, index = load("common")["$defs"], load("card"), load("release"), load("index")
    manifest = load("manifest")["properties"]
    assert (words["name"]["maxLength"], words["text"]["maxLength"]) == (
        limits.NAME_CHARACTERS,
        limits.STRING_CHARACTERS,
    )
    assert (words["version"]["maxLength"], words["constraint"]["maxLength"], words["path"]["maxLength"]) == (
        limits.VERSION_CHARACTERS,
        limits.CONSTRAINT_CHARACTERS,
        limits.PATH_CHARACTERS,
    )
    assert (words["size"]["maximum"], words["metrics"]["maxItems"]) == (limits.BLOB_BYTES, limits.METRICS)
    assert card["properties"]["parents"]["maxItems"] == limits.PARENTS
    assert release["properties"]["config"]["properties"]["size"]["maximum"] == limits.CARD_BYTES
    assert release["properties"]["layers"]["maxItems"] == limits.RELEASE_FILES
    assert index["properties"]["manifests"]["maxItems"] == limits.INDEX_RELEASES
    assert manifest["registries"]["anyOf"][0]["maxItems"] == limits.REGISTRIES


@pytest.mark.parametrize("path", sorted((_SPECS / "schemas").glob("*.json")), ids=lambda p: p.name)
def test_schemas_are_schemas(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
