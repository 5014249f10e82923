"""Licenses and scores in the choice of releases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Workplace


def score(value: float, name: str = "accuracy") -> list[dict[str, Any]]:
    return [{"name": name, "value": value, "dataset": "sst-2", "split": "validation"}]


@pytest.fixture
def shelf(work: Workplace) -> Workplace:
    work.publish("lang/en", "1.0", license="MIT")
    work.publish("lang/en", "1.1", license="GPL-3.0-only")
    work.publish("text/sst-2", "1.0", license="Apache-2.0 OR GPL-3.0-only", metrics=score(0.91), requires=["lang/en"])
    work.publish("text/sst-2", "1.1", license="MIT", metrics=score(0.94), requires=["lang/en"])
    work.publish("text/sst-2", "1.2", metrics=score(0.93), requires=["lang/en"])
    return work


def write(work: Workplace, **parts: Any) -> None:
    registries = [{"name": "here", "url": "../registry"}]
    base = {"path": "../base", "license": "Apache-2.0"}
    (work.project / "adapter.yaml").write_text(
        json.dumps({"base": base, "registries": registries, **parts}), encoding="utf-8"
    )


def locked(work: Workplace) -> dict[str, str]:
    return {key: package["version"] for key, package in json.loads(work.read("adapter.lock"))["packages"].items()}


def test_a_policy_of_licenses(shelf: Workplace) -> None:
    adapters = {"sst": "text/sst-2"}
    write(
        shelf, adapters=adapters, licenses={"allow": ["MIT", "Apache-2.0"]}, compose={"default": "stack(lang/en, sst)"}
    )
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "1.0", "text/sst-2": "1.1"}
    assert [line.split() for line in shelf.adpm("licenses").out.splitlines()] == [
        ["base", "-", "Apache-2.0"],
        ["sst", "text/sst-2", "1.1", "MIT"],
        ["lang/en", "lang/en", "1.0", "MIT"],
        ["compose.default", "-", "Apache-2.0,", "MIT"],
    ]
    told = shelf.adpm("licenses", "--json", "--offline").json
    assert told["compositions"] == {"default": ["Apache-2.0", "MIT"]}
    write(shelf, adapters=adapters, licenses={"allow": ["Apache-2.0"]}, compose={"default": "stack(lang/en, sst)"})
    assert (
        "licenses that are allowed are Apache-2.0; the lock has Apache-2.0, MIT"
        in shelf.adpm("install", "--locked", status=8).err
    )
    ran = shelf.adpm("lock", status=3)
    assert "lang/en 1.0 is licensed under MIT, which your project does not allow (licenses)" in ran.err
    assert "add 'GPL-3.0-only' to licenses" in ran.err
    write(shelf, adapters=adapters, licenses={"allow": ["MIT"]})
    assert "error[license-refused]" in shelf.adpm("lock", status=2).err


def test_a_score_as_a_floor_and_as_a_preference(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": {"package": "text/sst-2", "where": "accuracy on sst-2/validation <= 0.93"}})
    shelf.adpm("lock")
    assert locked(shelf)["text/sst-2"] == "1.2"
    write(shelf, adapters={"sst": {"package": "text/sst-2", "prefer": "metric:accuracy"}})
    ran = shelf.adpm("lock", "--locked", status=8)
    assert "sst is chosen by metric:accuracy; the lock has it where accuracy on sst-2/validation <= 0.93" in ran.err
    shelf.adpm("lock")
    assert locked(shelf)["text/sst-2"] == "1.2"  # what is locked stays
    ran = shelf.adpm("update")
    assert "sst: text/sst-2 1.1 is preferred for its accuracy of 0.94; the newest, 1.2, has 0.93" in ran.err
    assert locked(shelf)["text/sst-2"] == "1.1"
    write(shelf, adapters={"sst": {"package": "text/sst-2", "prefer": "metric:accuracy lowest"}})
    shelf.adpm("update")
    assert locked(shelf)["text/sst-2"] == "1.0"
    write(shelf, adapters={"sst": {"package": "text/sst-2", "where": ["accuracy >= 0.95"]}})
    ran = shelf.adpm("lock", status=3)
    assert "no version of text/sst-2 has accuracy >= 0.95 (the nearest is 0.94)" in ran.err


def test_outdated_says_what_licenses_and_scores_hold_back(shelf: Workplace) -> None:
    sst = {"package": "text/sst-2", "where": "accuracy >= 0.94"}
    write(shelf, adapters={"sst": sst}, licenses={"allow": ["MIT", "Apache-2.0"]})
    shelf.adpm("lock")
    en, best = shelf.adpm("outdated", "--json", status=1).json["packages"]
    assert (en["package"], en["newest"]) == ("lang/en", "1.1")
    assert en["held_by"] == ["lang/en 1.1 is not under a license that is allowed: GPL-3.0-only"]
    assert (best["locked"], best["newest"]) == ("1.1", "1.2")
    assert best["held_by"] == [
        "text/sst-2 1.2 is not under a license that is allowed",
        "text/sst-2 1.2 does not reach the floor: accuracy >= 0.94 (the nearest is 0.93)",
    ]


def test_an_index_that_lies_about_a_license_is_noticed(shelf: Workplace) -> None:
    index = shelf.root / "registry/packages/lang/en/index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("GPL-3.0-only", "MIT"), encoding="utf-8")
    write(shelf, adapters={"en": "lang/en"}, licenses={"allow": ["MIT", "Apache-2.0"]})
    ran = shelf.adpm("lock", status=6)
    assert "error[index-mismatch]" in ran.err
    assert "license: the index says MIT, the card says GPL-3.0-only" in ran.err


def test_an_index_that_says_nothing_makes_nothing_fit(shelf: Workplace) -> None:
    index = shelf.root / "registry/packages/lang/en/index.json"
    document = json.loads(index.read_text(encoding="utf-8"))
    for entry in document["manifests"]:
        entry["annotations"].pop("dev.adpm.license")
    index.write_text(json.dumps(document), encoding="utf-8")
    write(shelf, adapters={"en": "lang/en"})
    shelf.adpm("lock")
    write(shelf, adapters={"en": "lang/en"}, licenses={"allow": ["MIT", "Apache-2.0"]})
    assert "states no license" in shelf.adpm("lock", status=3).err
    shelf.adpm("registry", "rebuild", "here")
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "1.0"}
