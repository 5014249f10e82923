"""The spec pages say what the code does: examples are read, numbers are limits, links lead somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from adpm import limits
from adpm.core.base import DIMENSIONS
from adpm.core.names import PackageName
from adpm.formats.base import base_node, base_value
from adpm.formats.card import read_card
from adpm.formats.json import canonical, open_json
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.manifest import read_manifest
from adpm.formats.oci import read_index, read_release
from adpm.formats.peft import PEFT_METHODS

_SPECS: Final = Path(__file__).parents[2] / "specs"
_PAGES: Final = sorted(_SPECS.glob("*.md"))
_VARIABLE: Final = re.compile(r"ADPM_|HF_|[A-Z]+_PROXY\Z|SSL_CERT_|[A-Z]+_CA_BUNDLE\Z")  # of the environment
_LIMITS: Final = {name for name in vars(limits) if name.isupper()}


def _base(block: bytes) -> Any:
    document = open_json(block, source="base.md", code="card-invalid", limit=limits.CARD_BYTES)
    base = document.root.decode(base_node)
    document.finish()
    assert base is not None
    assert base_value(base) == json.loads(block)
    return base


def _lock(block: bytes) -> Any:
    lock = read_lock(block, "lock.md")
    assert write_lock(lock) == block
    return lock


def _dense(block: bytes) -> bytes:
    """The canonical bytes of an example that is shown with white space."""
    return canonical(json.loads(block))


_READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "manifest.md": lambda block: read_manifest(block, "manifest.md"),
    "lock.md": _lock,
    "card.md": lambda block: read_card(_dense(block), "card.md"),
    "release.md": lambda block: read_release(_dense(block), "release.md"),
    "index.md": lambda block: read_index(_dense(block), PackageName("text/sst-2"), "index.md"),
    "base.md": _base,
}


def _blocks(page: Path) -> Iterator[bytes]:
    for match in re.finditer(
        r"^```(?:json|yaml)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        yield match[1].encode()


@pytest.mark.parametrize("name", _READERS)
def test_examples_are_read(name: str) -> None:
    blocks = list(_blocks(_SPECS / name))
    assert blocks
    for block in blocks:
        assert _READERS[name](block)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_numbers_are_the_limits(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    stated = re.findall(r"([0-9]+) \(`([A-Z_]+)`\)", text) + [
        (number, name) for name, number in re.findall(r"^\| `([A-Z_]+)` \| ([0-9]+) \|", text, re.MULTILINE)
    ]
    for number, name in stated:
        assert int(number) == getattr(limits, name), name


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_constants_exist(page: Path) -> None:
    words = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", page.read_text(encoding="utf-8"))
    known = _LIMITS | PEFT_METHODS.keys()
    assert [word for word in words if word not in known and not _VARIABLE.match(word)] == []


def test_every_limit_of_a_document_is_stated() -> None:
    """The limits of the network, the resolver, the runtime and the store are nothing that a document depends on."""
    source = Path(limits.__file__).read_text(encoding="utf-8")
    groups = dict(re.findall(r"^# ([A-Z][a-z ]+)\n((?:[A-Z_]+: Final.*\n)+)", source, re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in _PAGES)
    for group in ("Documents", "Names and packages", "Base identity"):
        assert [
            name for name in re.findall(r"^([A-Z_]+):", groups[group], re.MULTILINE) if f"`{name}`" not in text
        ] == []


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        aim = _SPECS / path if path else page
        assert aim.exists(), target
        assert not anchor or anchor in _anchors(aim), target


def test_the_dimensions_of_a_base_are_listed() -> None:
    text = (_SPECS / "base.md").read_text(encoding="utf-8")
    for name, keys in DIMENSIONS.items():
        assert f"| `{name}` | {', '.join(f'`{key}`' for key in keys)} |" in text


def test_readme_lists_every_page() -> None:
    text = (_SPECS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in _PAGES if page.name != "README.md" and f"]({page.name})" not in text] == []
