"""What the Hub adds to the contract: repositories that others use, few requests, races, and what people do there."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread

import pytest
from packaging.version import Version

from adpm.core.names import Digest, PackageName
from adpm.errors import AdpmError, NetworkError, NotFoundError, RegistryError, UsageError
from adpm.formats.model_card import GENERATED, read_front_matter
from adpm.registry.hub import HubRegistry
from adpm.registry.hub_names import package_of, repository_of
from adpm.registry.open import open_registry
from adpm.testing.making import make
from tests.registry.hub.server import Hub

NAME = PackageName("text/sst-2")
REPOSITORY = "alice/text__sst-2"
WEIGHTS = {"adapter_config.json": b"{}", "adapter.safetensors": b"w" * 1_500_000}


def opened(tmp_path: Path, url: str = "hf://alice", cache: str | None = None) -> HubRegistry:
    registry = open_registry("hub", url, tmp_path, tmp_path / cache if cache else None)
    assert isinstance(registry, HubRegistry)
    return registry


def titles(hub: Hub) -> list[str]:
    log = hub.repositories[REPOSITORY].git("log", "--format=%s", "main").decode()
    return log.splitlines()[:-1]


def test_names_and_repositories() -> None:
    for name, owner, repository in [
        ("text/sst-2", "Team", "Team/text__sst-2"),
        ("sst", "Team", "Team/sst"),
        ("a/b/c/d", "Team", "Team/a__b__c__d"),
        ("team/sst", None, "team/sst"),
        ("team/text/sst", None, "team/text__sst"),
    ]:
        assert repository_of(PackageName(name), owner) == repository
        assert package_of(repository, owner) == name
    assert package_of("Team/Upper", "Team") is None
    for name, owner in [("alone", None), ("a" * 92, "Team"), ("a", "a--b")]:
        with pytest.raises(UsageError) as caught:
            repository_of(PackageName(name), owner)
        assert caught.value.code == "name-unhubable"


def test_a_release_is_a_commit_and_a_tag(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    digest = registry.publish(make(tmp_path, files=WEIGHTS)).listing.manifest.digest
    registry.publish(make(tmp_path, version="1.1", files=WEIGHTS))
    repository = hub.repositories[REPOSITORY]
    assert titles(hub) == ["Release 1.1", "Release 1.0.0"]
    assert [tag for tag, _ in repository.refs("tags")] == ["1.0.0", "1.1"]
    for path, data in WEIGHTS.items():
        assert repository.read(path, "1.0.0") == data
    large = repository.entry(repository.commit_of("1.0.0"), "adapter.safetensors")
    assert large is not None
    assert large.lfs == Digest.of(WEIGHTS["adapter.safetensors"]).hex
    directory = open_registry("here", str(tmp_path / "here"), tmp_path)
    assert directory.publish(make(tmp_path, files=WEIGHTS), init=True).listing.manifest.digest == digest
    assert hub.count("^PUT") == 1  # the weights of 1.1 were there


def test_a_hub_that_makes_repositories_without_a_commit(hub: Hub, tmp_path: Path) -> None:
    hub.makes_first_commit = False
    hub.create(REPOSITORY)
    registry = opened(tmp_path)
    with pytest.raises(NotFoundError) as caught:
        registry.versions(NAME)
    assert caught.value.code == "package-not-found"
    listing = registry.publish(make(tmp_path, files=WEIGHTS)).listing
    assert registry.versions(NAME) == (listing,)
    other = registry.publish(make(tmp_path, "other")).listing
    assert registry.versions(PackageName("other")) == (other,)


def test_files_that_a_release_drops_are_gone_from_main(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    registry.publish(make(tmp_path, files={**WEIGHTS, "head_config.json": b"{}", "NOTICE": b"{}"}))
    repository = hub.repositories[REPOSITORY]
    repository.upload({"train.py": b"print()"})
    registry.publish(make(tmp_path, version="2.0", files=WEIGHTS))
    names = {entry.path for entry in repository.entries(repository.commit_of("main"))}
    assert "train.py" in names
    assert not names & {"head_config.json", "NOTICE"}
    assert repository.read("head_config.json", "1.0.0") == b"{}"


def test_the_model_card_is_made_but_never_over_somebodys_own(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    publication = make(tmp_path)
    registry.publish(publication)
    repository = hub.repositories[REPOSITORY]
    front = read_front_matter(repository.read("README.md"))
    assert front["base_model"] == "google-bert/bert-base-uncased"
    assert front["library_name"] == "adapter-transformers"
    assert {"adpm", "adapter-transformers", "bert"} <= set(front["tags"])
    registry.publish(make(tmp_path, version="2.0"))
    assert b"2.0" in repository.read("README.md")
    repository.upload({"README.md": b"# Mine\n"})
    registry.publish(make(tmp_path, version="3.0"))
    assert repository.read("README.md") == b"# Mine\n"
    registry.publish(make(tmp_path, version="4.0", files={"README.md": b"# The package's\n"}))
    assert repository.read("README.md") == b"# The package's\n"
    assert GENERATED.encode() in repository.read("README.md", "2.0")


def test_reading_costs_few_requests(hub: Hub, tmp_path: Path) -> None:
    publisher = opened(tmp_path)
    for number in range(6):
        publisher.publish(make(tmp_path, version=f"1.{number}"))
    reader = opened(tmp_path)
    (tmp_path / "hf").rename(tmp_path / "away")  # the Hub's cache of somebody else
    before = hub.count()
    assert len(reader.versions(NAME)) == 6
    assert hub.count() - before == 3  # refs, and the index: HEAD and GET
    assert len(opened(tmp_path).versions(NAME)) == 6
    assert hub.count() - before == 4


def test_weights_in_the_hubs_cache_are_not_fetched(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    listing = registry.publish(make(tmp_path, files=WEIGHTS)).listing
    (blob,) = (file.blob for file in registry.confirmed(listing).release.files if file.path.endswith(".safetensors"))
    for expected in (1, 0):
        before = hub.count(r"GET .*/[0-9a-f]{64}$")
        assert b"".join(opened(tmp_path).blob(NAME, blob)) == WEIGHTS["adapter.safetensors"]
        assert hub.count(r"GET .*/[0-9a-f]{64}$") - before == expected
    before = hub.count()
    b"".join(opened(tmp_path).blob(NAME, blob))
    assert hub.count() == before


def test_a_publisher_who_dies_before_the_tag_goes_on(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    registry.publish(make(tmp_path))
    hub.fail("POST .*/tag/", 500)
    with pytest.raises(NetworkError) as caught:
        registry.publish(make(tmp_path, version="2.0", files=WEIGHTS))
    assert caught.value.code == "http-status"
    assert [str(listing.version) for listing in registry.versions(NAME)] == ["1.0.0"]  # no tag, no release
    assert titles(hub)[0] == "Release 2.0"
    assert opened(tmp_path).publish(make(tmp_path, version="2.0", files=WEIGHTS)).created
    assert titles(hub) == ["Release 2.0", "Release 1.0.0"]
    assert [str(listing.version) for listing in registry.versions(NAME)] == ["1.0.0", "2.0"]


def test_an_untagged_commit_of_another_is_no_claim(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    hub.fail("POST .*/tag/", 500)
    with pytest.raises(NetworkError):
        registry.publish(make(tmp_path, files={"weights": b"one"}))
    listing = opened(tmp_path).publish(make(tmp_path, files={"weights": b"two"})).listing
    assert registry.versions(NAME) == (listing,)
    with pytest.raises(RegistryError) as caught:
        registry.publish(make(tmp_path, files={"weights": b"one"}))
    assert caught.value.code == "version-taken"


def test_who_was_overtaken_begins_again(hub: Hub, tmp_path: Path) -> None:
    registry, other = opened(tmp_path), opened(tmp_path)
    registry.publish(make(tmp_path))

    def overtake(request: str) -> None:
        if "/commit/" in request:
            hub.before = None
            other.publish(make(tmp_path, version="2.0"))

    hub.before = overtake
    assert registry.publish(make(tmp_path, version="3.0")).created
    assert [str(listing.version) for listing in other.versions(NAME)] == ["1.0.0", "2.0", "3.0"]
    assert hub.count("POST .*/commit/") == 4  # one was refused as stale


def test_of_two_who_tag_one_version_the_first_wins(hub: Hub, tmp_path: Path) -> None:
    registry, other = opened(tmp_path), opened(tmp_path)

    def overtake(request: str) -> None:
        if "/tag/" in request:
            hub.before = None
            other.publish(make(tmp_path, files={"weights": b"two"}))

    hub.before = overtake
    with pytest.raises(RegistryError) as caught:
        registry.publish(make(tmp_path, files={"weights": b"one"}))
    assert caught.value.code == "version-taken"
    (listing,) = opened(tmp_path).versions(NAME)
    assert caught.value.values["published"] == listing.manifest.digest
    registry.confirmed(listing)


def test_publishers_at_the_same_time(hub: Hub, tmp_path: Path) -> None:
    versions = [f"1.{number}" for number in range(5)]
    publications = [make(tmp_path, version=version) for version in versions]
    opened(tmp_path).publish(make(tmp_path, version="0.1"))
    failed: list[AdpmError] = []

    def run(number: int) -> None:
        try:
            opened(tmp_path).publish(publications[number])
        except AdpmError as error:
            failed.append(error)

    threads = [Thread(target=run, args=(number,)) for number in range(len(versions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    listings = opened(tmp_path).versions(NAME)
    assert [str(listing.version) for listing in listings] == ["0.1", *versions]
    for listing in listings:
        opened(tmp_path).confirmed(listing)


def test_what_people_do_to_main_and_to_tags(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    listings = [registry.publish(make(tmp_path, version=version)).listing for version in ("1.0", "2.0")]
    repository = hub.repositories[REPOSITORY]
    repository.upload({"README.md": b"# Better words\n"})  # main's index does not know the tag's commit any more
    assert registry.versions(NAME) == tuple(listings)
    repository.commit(deleted=[".adpm/index.json"])
    assert registry.versions(NAME) == tuple(listings)
    assert registry.rebuild_index(NAME) == tuple(listings)
    assert "2.0" in json.loads(repository.read(".adpm/index.json"))["releases"]
    other = repository.commit_of("1.0")
    repository.git("tag", "-d", "2.0")
    assert registry.versions(NAME) == (listings[0],)  # deleting its tag unpublishes a release
    repository.git("tag", "latest", other)
    repository.git("tag", "3.0+local", other)
    assert registry.versions(NAME) == (listings[0],)


def test_a_broken_index_is_told(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    registry.publish(make(tmp_path))
    for data in (b"{", b'{"format":2}', b'{"format":1,"name":"text/sst-2","index":{},"releases":{"1.0":{}}}'):
        hub.repositories[REPOSITORY].upload({".adpm/index.json": data})
        with pytest.raises(AdpmError) as caught:
            registry.versions(NAME)
        assert caught.value.code in {"registry-invalid", "index-invalid"}


def test_a_yank_outlives_the_next_release(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path)
    registry.publish(make(tmp_path))
    assert registry.yank(NAME, Version("1.0.0"), "wrong data")
    registry.publish(make(tmp_path, version="2.0"))
    registry.rebuild_index(NAME)
    assert [listing.yanked for listing in opened(tmp_path).versions(NAME)] == ["wrong data", None]


def test_a_package_is_read_by_the_address_it_was_published_to(hub: Hub, tmp_path: Path) -> None:
    opened(tmp_path, "hf://").publish(make(tmp_path, "alice/sst"))
    assert opened(tmp_path, "hf://").versions(PackageName("alice/sst"))
    with pytest.raises(NotFoundError) as caught:
        opened(tmp_path).versions(PackageName("sst"))
    assert "holds the package alice/sst" in str(caught.value)
    assert opened(tmp_path, "hf://").packages() is None


def test_a_name_that_the_hub_can_not_have_is_left_to_other_registries(hub: Hub, tmp_path: Path) -> None:
    registry = opened(tmp_path, "hf://")
    name = PackageName("alone")
    with pytest.raises(NotFoundError) as caught:
        registry.versions(name)
    assert caught.value.code == "package-not-found"
    with pytest.raises(UsageError) as refused:
        registry.publish(make(tmp_path, name))
    assert refused.value.code == "name-unhubable"
    assert hub.requests == []
