"""Writers are canonical: reading what was written gives the value, writing what was read gives the bytes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from adpm.core.base import BaseIdentity
from adpm.core.lock import Lock
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Card, File, Listing, Method, Metric
from adpm.errors import DocumentError
from adpm.formats.base import base_value
from adpm.formats.card import read_card, write_card
from adpm.formats.json import canonical, parse_json, pretty
from adpm.formats.lock import read_lock, write_lock
from adpm.formats.oci import read_index, read_release, write_index, write_release
from tests import strategies


@given(strategies.cards)
def test_cards(card: Card) -> None:
    data = write_card(card)
    assert read_card(data, "card") == card
    assert write_card(read_card(data, "card")) == data


@settings(max_examples=40)
@given(strategies.locks())
def test_locks(lock: Lock) -> None:
    data = write_lock(lock)
    assert read_lock(data, "lock") == lock
    assert write_lock(read_lock(data, "lock")) == data
    assert data.endswith(b"\n")


@given(st.binary(max_size=20), strategies.file_lists, st.randoms())
def test_releases(content: bytes, files: tuple[File, ...], order: random.Random) -> None:
    card = Blob.of(content)
    data = write_release(card, files)
    release = read_release(data, "release")
    assert release.files == files
    assert release.card == card
    assert release.manifest == Blob(Digest.of(data), len(data))
    shuffled = order.sample(files, len(files))
    assert write_release(card, shuffled) == data


def _place(entry: Listing) -> tuple[Version, str]:
    return entry.version, entry.manifest.digest


@settings(max_examples=40)
@given(st.lists(strategies.listings, max_size=4), st.randoms())
def test_indexes(listings: list[Listing], order: random.Random) -> None:
    data = write_index(listings)
    name = PackageName("lang/en")
    read = read_index(data, name, "index")
    assert list(read) == sorted(listings, key=_place)
    assert write_index(read) == data
    distinct = list({_place(entry): entry for entry in listings}.values())
    assert write_index(order.sample(distinct, len(distinct))) == write_index(distinct)


@settings(max_examples=40)
@given(strategies.cards, st.randoms())
def test_cards_do_not_depend_on_the_order_of_keys(card: Card, order: random.Random) -> None:
    value = json.loads(write_card(card))
    keys = order.sample(sorted(value), len(value))
    assert canonical({key: value[key] for key in keys}) == write_card(card)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (1, b"1"),
        (1.0, b"1"),
        (-0.0, b"0"),
        (0.924, b"0.924"),
        (1e-7, b"1e-07"),
        (1e22, b"1e+22"),
        (2.0**53, b"9007199254740992.0"),
    ],
)
def test_scores_have_one_spelling(value: float, spelled: bytes) -> None:
    base = BaseIdentity("m", None, None, None)
    card = Card(PackageName("a"), Version("1.0"), base, Method("peft", "lora"), metrics=(Metric("x", value),))
    data = write_card(card)
    assert b'"value":' + spelled + b"}" in data
    assert read_card(data, "card") == card


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(_json, st.sampled_from([canonical, pretty]))
def test_json_values(value: Any, write: Any) -> None:
    data = write(value)
    read = parse_json(data, source="x", code="x", limit=1 << 20)
    assert read == value
    assert write(read) == data


@settings(max_examples=30)
@given(strategies.cards, st.integers(0, 10**6), st.binary(min_size=1, max_size=1))
def test_a_changed_byte_is_another_card_or_none(card: Card, place: int, byte: bytes) -> None:
    data = write_card(card)
    place %= len(data)
    changed = data[:place] + byte + data[place + 1 :]
    try:
        read = read_card(changed, "card")
    except DocumentError:
        return
    assert write_card(read) == changed


_PROGRAM = """
import sys
from packaging.version import Version
from adpm.core.base import BaseIdentity, Shape, Sketch
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias, Digest, PackageName
from adpm.core.release import Blob, Card, File, Listing, Method, Metric
from adpm.core.requirement import Requirement
from adpm.formats.card import write_card
from adpm.formats.lock import write_lock
from adpm.formats.oci import write_index, write_release

turn = (lambda items: list(reversed(items))) if sys.argv[1] == "turned" else list
base = BaseIdentity("m", None, Shape("bert", (("hidden_size", 384),)), Sketch("float32", (0.1,) * 256))
wanted = turn(["b !=1.3,>=1,<2,!=1.2", "a", "c ~=1.0"])
requires = tuple(sorted((Requirement.parse(r) for r in wanted), key=lambda r: r.name))
metrics = (Metric("größe", 1 / 3), Metric("b", 1e22), Metric("c", 2.0))
card = Card(PackageName("x/y"), Version("1.0"), base, Method("peft", "lora"), requires, "ä大", metrics=metrics)
data = write_card(card)
files = [File(p, Blob(Digest.of(p.encode()), len(p))) for p in turn(["a", "B", "b/c", "Z-1", "_x"])]
release = write_release(Blob.of(data), files)
blob = Blob(Digest.of(release), len(release))
listings = [Listing(card.name, Version(v), blob, requires, base) for v in turn(["1.10", "1.9", "2.0rc1", "2.0"])]
names = turn(["a", "b", "c", "x/y"])
ordered = tuple(sorted(files, key=lambda f: f.path))
packages = {
    PackageName(n): LockedPackage(PackageName(n), Version("1.0"), "here", blob, blob, ordered, requires) for n in names
}
adapters = {Alias(n[0]): LockedAdapter(Requirement.parse(n + " >=1,<2,!=1.5")) for n in names}
lock = Lock(base, adapters, {"d": "a", "c": "b"} if sys.argv[1] == "turned" else {"c": "b", "d": "a"}, packages)
for written in (data, release, write_index(listings), write_lock(lock)):
    print(Digest.of(written))
"""


def _digests(order: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, order],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_digests_depend_on_content_alone() -> None:
    """Not on hash seed, time zone, locale or the order in which dicts, sets and files come."""
    first = _digests("straight", PYTHONHASHSEED="0", TZ="UTC", LC_ALL="C")
    assert len(set(first.split())) == 4
    assert _digests("turned", PYTHONHASHSEED="1", TZ="Pacific/Apia", LC_ALL="C.UTF-8", PYTHONUTF8="0") == first
    assert _digests("turned", PYTHONHASHSEED="77", TZ="Asia/Kathmandu", LC_ALL="de_DE", LANG="tr_TR") == first


def test_parts_that_are_not_known_are_left_out() -> None:
    assert base_value(BaseIdentity(None, None, None, None)) == {}
