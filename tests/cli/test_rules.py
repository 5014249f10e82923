"""Overrides, exclusions, the order of preference and the cutoff, from adapter.yaml to adapter.lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from adpm.core.names import PackageName
from adpm.ops.lock import lock
from adpm.ops.project import Project
from adpm.store.store import Store
from tests.cli.conftest import Workplace


@pytest.fixture
def shelf(work: Workplace) -> Workplace:
    """text/sst-2 1.0 wants lang/en <2 and lang/old; text/sst-2 2.0 wants lang/en >=2."""
    for version in ("1.0", "1.5", "2.0"):
        work.publish("lang/en", version)
    work.publish("lang/old", "1.0")
    work.publish("text/sst-2", "1.0", requires=["lang/en <2", "lang/old"])
    work.publish("text/sst-2", "2.0", requires=["lang/en >=2"])
    work.start()
    return work


def write(work: Workplace, **parts: Any) -> None:
    """A manifest with these sections beside the base and the registry."""
    base = {"base": {"path": "../base"}, "registries": [{"name": "here", "url": "../registry"}]}
    (work.project / "adapter.yaml").write_text(json.dumps({**base, **parts}), encoding="utf-8")


def locked(work: Workplace) -> dict[str, str]:
    packages: Mapping[str, Any] = json.loads(work.read("adapter.lock"))["packages"]
    return {name: package["version"] for name, package in packages.items()}


def test_an_override_stands_in_for_what_releases_require(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": "text/sst-2"}, overrides=["lang/en ==1.5"])
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "1.5", "text/sst-2": "2.0"}
    assert shelf.adpm("tree").out == "sst: text/sst-2 2.0\n`-- lang/en 1.5 (==1.5)\n"
    shelf.adpm("install", "--locked")
    write(shelf, adapters={"sst": "text/sst-2"})
    ran = shelf.adpm("lock", "--locked", status=8)
    assert "no override of lang/en; the lock has the override lang/en ==1.5" in ran.err
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "2.0", "text/sst-2": "2.0"}
    assert "rules" not in json.loads(shelf.read("adapter.lock"))


def test_an_exclusion_drops_what_releases_require(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": "text/sst-2 <2"}, exclude=["lang/old"])
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "1.5", "text/sst-2": "1.0"}
    shelf.adpm("verify")
    write(shelf, adapters={"sst": "text/sst-2 <2"})
    assert "lang/old is not excluded; in the lock it is" in shelf.adpm("install", "--locked", status=8).err
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "1.5", "lang/old": "1.0", "text/sst-2": "1.0"}


def test_the_order_of_preference(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": "text/sst-2"})
    shelf.adpm("lock", "--resolution", "lowest")
    assert locked(shelf) == {"lang/en": "1.0", "lang/old": "1.0", "text/sst-2": "1.0"}
    assert "the resolution is highest; the lock has lowest" in shelf.adpm("lock", "--locked", status=8).err
    shelf.adpm("lock", "--locked", "--resolution", "lowest")
    shelf.adpm("lock", "--resolution", "lowest-direct")
    assert locked(shelf) == {"lang/en": "1.5", "lang/old": "1.0", "text/sst-2": "1.0"}
    shelf.adpm("lock")
    assert locked(shelf) == {"lang/en": "2.0", "text/sst-2": "2.0"}
    write(shelf, adapters={"sst": "text/sst-2"}, resolution="lowest")
    shelf.adpm("update")
    assert locked(shelf)["text/sst-2"] == "1.0"


def test_what_is_newer_is_left_out(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": "text/sst-2"}, **{"exclude-newer": "2020-01-31"})
    ran = shelf.adpm("lock", status=3)
    assert "no version of text/sst-2 was published before 2020-02-01T00:00:00Z (exclude-newer)" in ran.err
    write(shelf, adapters={"sst": "text/sst-2"}, **{"exclude-newer": "P0D"})
    shelf.adpm("lock", "--exclude-newer", "2999-12-31")
    rules = {"before": "3000-01-01T00:00:00Z", "exclude-newer": "2999-12-31"}
    assert json.loads(shelf.read("adapter.lock"))["rules"] == rules
    assert "exclude-newer is P0D; the lock has 2999-12-31" in shelf.adpm("lock", "--locked", status=8).err
    assert "error[moment-invalid]" in shelf.adpm("lock", "--exclude-newer", "last week", status=2).err


def test_what_has_no_time_counts_where_that_is_said(shelf: Workplace) -> None:
    for record in (shelf.root / "registry/packages/lang/en").glob("index.json"):
        index = json.loads(record.read_bytes())
        for entry in index["manifests"]:
            del entry["annotations"]["org.opencontainers.image.created"]
        record.write_text(json.dumps(index), encoding="utf-8")
    write(shelf, adapters={"en": "lang/en"}, **{"exclude-newer": "2999-01-31"})
    ran = shelf.adpm("lock", status=3)
    assert "not known whether" in ran.err
    assert "set exclude-undated: false or pin it in adapter.yaml: 'lang/en@sha256:" in ran.err
    write(shelf, adapters={"en": "lang/en"}, **{"exclude-newer": "2999-01-31", "exclude-undated": False})
    shelf.adpm("lock")
    assert json.loads(shelf.read("adapter.lock"))["rules"]["exclude-undated"] is False
    write(shelf, adapters={"en": "lang/en"}, **{"exclude-newer": "2999-01-31"})
    assert "exclude-undated is true; the lock has false" in shelf.adpm("lock", "--locked", status=8).err


def test_an_age_counts_from_when_releases_are_chosen(shelf: Workplace) -> None:
    write(shelf, adapters={"sst": "text/sst-2"}, **{"exclude-newer": "P7D"})
    project, store = Project.find(shelf.project), Store.default()
    first = lock(project, store, now=datetime(2999, 1, 8, tzinfo=UTC)).lock
    assert first.before == "2999-01-01T00:00:00Z"
    project.write(first)
    data = (shelf.project / "adapter.lock").read_bytes()
    later = datetime(2999, 3, 8, tzinfo=UTC)
    assert lock(project, store, now=later).lock == first
    shelf.adpm("lock", "--locked")
    project.write(lock(project, store, update=(), now=later).lock)
    changed = (shelf.project / "adapter.lock").read_bytes()
    assert changed == data.replace(b"2999-01-01", b"2999-03-01") != data
    assert first.packages[PackageName("lang/en")].version.major == 2


def test_a_pre_release_is_for_who_names_one(work: Workplace) -> None:
    work.publish("text/x", "1.0")
    work.publish("text/x", "2.0a1")
    work.start()
    work.adpm("add", "text/x")
    assert locked(work) == {"text/x": "1.0"}
    work.adpm("add", "text/x >=2.0a1")
    assert locked(work) == {"text/x": "2.0a1"}


def test_a_package_that_no_registry_has(shelf: Workplace) -> None:
    ran = shelf.adpm("add", "text/sts-2", status=3)
    assert "did you mean text/sst-2? If not, add a registry that has text/sts-2" in ran.err
