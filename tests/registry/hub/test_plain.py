"""Repositories of PEFT and AdapterHub as people have them: packages without their owners doing anything."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.core.release import Metric
from adpm.errors import AdpmError, NotFoundError, UsageError
from adpm.formats.card import read_card
from adpm.formats.json import canonical
from adpm.formats.oci import read_release
from adpm.formats.plain import plain_card
from adpm.formats.resave import resave
from adpm.formats.safetensors import read_header
from adpm.registry.hub import HubRegistry
from adpm.registry.hub_open import open_revision
from adpm.registry.open import open_registry
from adpm.testing.making import make
from tests.making import make_adapter, make_base, write_safetensors
from tests.parity.corpus import ROOT
from tests.registry.hub.server import Hub

NAME = PackageName("adapterhub/squad")
REPOSITORY = "AdapterHub/squad"
HEAD = "adapters-1.3.0/058-bert-head-classification"
README = b"""---
license: apache-2.0
language: [en]
base_model: google-bert/bert-base-uncased
tags: [adapterhub:qa/squad1, bert]
model-index:
- name: squad
  results:
  - task: {type: question-answering}
    dataset: {name: SQuAD, type: squad, split: validation}
    metrics:
    - {type: f1, value: 88.5}
    - {type: note, value: best of three}
---
# SQuAD
"""


def opened(tmp_path: Path, url: str = "hf://", cache: str | None = "cache") -> HubRegistry:
    registry = open_registry("hub", url, tmp_path, tmp_path / cache if cache else None)
    assert isinstance(registry, HubRegistry)
    return registry


def adapter(tmp_path: Path, seed: int = 0) -> dict[str, bytes]:
    """The files of an adapter as a person would upload them."""
    directory = make_adapter(tmp_path / f"made-{seed}", base=make_base(tmp_path / "base"), seed=seed)
    (directory / "adapter.yaml").unlink()
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def corpus(*directories: str) -> dict[str, bytes]:
    """Real files of the peers."""
    if not ROOT.is_dir():
        pytest.skip(f"the corpus of the peers' files is not at {ROOT}")
    return {path.name: path.read_bytes() for directory in directories for path in (ROOT / directory).iterdir()}


def test_a_repository_with_tags_is_a_package(hub: Hub, tmp_path: Path) -> None:
    files = [{**adapter(tmp_path, seed), "README.md": README, "train.py": b"print()"} for seed in range(3)]
    repository = hub.create(REPOSITORY)
    for tag, content in zip(("v1.0", "1.1", "latest"), files, strict=True):
        repository.upload(content, tag=tag)
    registry = opened(tmp_path)
    listings = registry.versions(NAME)
    assert [str(listing.version) for listing in listings] == ["1.0", "1.1"]
    assert hub.count("GET .*storage|GET .*/[0-9a-f]{64}$") == 0  # weights are not fetched to list them
    confirmed = registry.confirmed(listings[1])
    card = confirmed.card
    assert (card.name, str(card.version), card.method.format, card.method.kind) == (
        NAME,
        "1.1",
        "adapterhub",
        "bottleneck",
    )
    assert card.base.model == "google-bert/bert-base-uncased"
    assert (card.license, card.language, card.task) == ("apache-2.0", "en", "qa/squad1")
    assert card.metrics == (Metric("f1", 88.5, "squad", "validation"),)
    release = {file.path: file.blob for file in confirmed.release.files}
    assert set(release) == {"README.md", "adapter.safetensors", "adapter_config.json"}
    for path, blob in release.items():
        assert b"".join(registry.blob(NAME, blob)) == files[1][path]


def test_the_same_commit_is_the_same_release_for_everybody(hub: Hub, tmp_path: Path) -> None:
    repository = hub.create("team/x")
    repository.upload(adapter(tmp_path), tag="1.0")
    name = PackageName("team/x")
    first = opened(tmp_path).versions(name)
    before = hub.count()
    assert opened(tmp_path).versions(name) == first
    assert hub.count() - before == 1  # a commit that was looked at is known
    shutil.rmtree(tmp_path / "hf")
    assert opened(tmp_path, cache=None).versions(name) == first


def test_a_release_of_adpm_and_others_beside_it(hub: Hub, tmp_path: Path) -> None:
    repository = hub.create("alice/x")
    repository.upload(adapter(tmp_path), tag="v1.0")
    registry = opened(tmp_path, "hf://alice")
    name = PackageName("x")
    (plain,) = registry.versions(name)
    with pytest.raises(AdpmError) as caught:
        registry.publish(make(tmp_path, "x", "1.0"))
    assert caught.value.code == "version-taken"
    ours = registry.publish(make(tmp_path, "x", "2.0")).listing
    assert registry.versions(name) == (plain, ours)
    assert registry.yank(name, Version("1.0"), "old")
    assert [listing.yanked for listing in opened(tmp_path, "hf://alice").versions(name)] == ["old", None]
    assert registry.packages() == ("x",)


def test_tags_that_are_no_adapters_are_passed_over(hub: Hub, tmp_path: Path) -> None:
    repository = hub.create("team/x")
    repository.upload({"README.md": b"# Soon\n"}, tag="0.1")
    repository.upload({"adapter_config.json": b"{"}, tag="0.2")
    repository.upload({"adapter_config.json": b'{"peft_type":"LORA"}'}, tag="0.3")
    with pytest.raises(NotFoundError) as caught:
        opened(tmp_path).versions(PackageName("team/x"))
    assert caught.value.code == "package-not-found"
    repository.upload(adapter(tmp_path), tag="1.0")
    (listing,) = opened(tmp_path).versions(PackageName("team/x"))
    assert str(listing.version) == "1.0"


@pytest.mark.parametrize(
    ("fixture", "weights"),
    [
        ("adapters-1.3.0/020-bert-lora/adapters_safetensors/task", "adapter.safetensors"),
        ("peft-0.21.2/032-roberta-lora/adapters", "adapter_model.safetensors"),
    ],
)
def test_what_the_peers_wrote(hub: Hub, tmp_path: Path, fixture: str, weights: str) -> None:
    content = corpus(fixture)
    commit = hub.create("team/real").upload(content)
    revision = open_revision("team/real", None, tmp_path / "cache")
    assert (revision.commit, revision.listing.name) == (commit, "team/real")
    assert revision.listing.version == Version(f"0.dev{int(commit[:12], 16)}")
    assert str(revision.listing.base.model).startswith("adpm-fixtures/")
    release = read_release(b"".join(revision.chunks(revision.listing.manifest.digest)), "test")
    assert [file.path for file in release.files] == sorted(["adapter_config.json", weights])
    for file in release.files:
        assert b"".join(revision.chunks(file.blob.digest)) == content[file.path]


def test_pickles_become_the_same_bytes_each_time_and_the_card_says_so(hub: Hub, tmp_path: Path) -> None:
    content = corpus(f"{HEAD}/adapters/task", f"{HEAD}/heads/task")
    safe = corpus(f"{HEAD}/adapters_safetensors/task", f"{HEAD}/heads_safetensors/task")
    hub.create("team/old").upload(content, tag="1.0")
    name = PackageName("team/old")
    (listing,) = opened(tmp_path).versions(name)
    confirmed = opened(tmp_path).confirmed(listing)
    pickles = {name: Digest.of(data) for name, data in sorted(content.items()) if name.endswith(".bin")}
    notes = [f"{name} ({digest}) as safetensors" for name, digest in pickles.items()]
    assert confirmed.card.description == ", ".join(notes)
    assert [file.path for file in confirmed.release.files] == sorted(safe)
    for file in confirmed.release.files:
        data = b"".join(opened(tmp_path).blob(name, file.blob))
        if file.path.endswith(".safetensors"):
            assert data == resave(safe[file.path], source="what the peer itself wrote with safetensors")
        else:
            assert data == content[file.path]
    shutil.rmtree(tmp_path / "cache")
    assert opened(tmp_path, cache="other").versions(name) == (listing,)


@pytest.mark.slow
def test_a_pickle_that_is_more_than_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    files = adapter(tmp_path) | {"pytorch_adapter.bin": b"cposix\nsystem\n(S'true'\ntR."}
    del files["adapter.safetensors"]
    hub.create("team/bad").upload(files, tag="1.0")
    with pytest.raises(AdpmError) as caught:
        open_revision("team/bad", None, None)
    assert caught.value.code == "pickle-refused"


def test_a_pickle_that_is_too_large_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = adapter(tmp_path) | {"pytorch_adapter.bin": b"x" * 100}
    del files["adapter.safetensors"]
    hub.create("team/large").upload(files)
    monkeypatch.setattr(limits, "PICKLE_BYTES", 99)
    with pytest.raises(AdpmError) as caught:
        open_revision("team/large", None, None)
    assert caught.value.code == "pickle-refused"
    assert "100 bytes" in str(caught.value)


def test_without_torch_the_error_names_the_extra(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = adapter(tmp_path) | {"pytorch_adapter.bin": b"x"}
    del files["adapter.safetensors"]
    hub.create("team/old").upload(files, tag="1.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for action in (
        lambda: open_revision("team/old", "1.0", None),
        lambda: opened(tmp_path).versions(PackageName("team/old")),
    ):
        with pytest.raises(UsageError) as caught:
            action()
        assert (caught.value.code, caught.value.hint) == ("extra-missing", "pip install 'adpm[torch]'")


def test_a_revision_of_any_repository(hub: Hub, tmp_path: Path) -> None:
    repository = hub.create("Team/My__Odd-._Name")
    first = repository.upload(adapter(tmp_path, 1), tag="latest")
    second = repository.upload(adapter(tmp_path, 2))
    for revision, commit in ((None, second), ("main", second), ("latest", first), (first, first)):
        found = open_revision("Team/My__Odd-._Name", revision, None)
        assert (found.commit, found.listing.name) == (commit, "team/my_odd-name")
    for repository_id, revision, code in (
        ("Team/My__Odd-._Name", "none", "revision-not-found"),
        ("Team/none", None, "package-not-found"),
    ):
        with pytest.raises(NotFoundError) as caught:
            open_revision(repository_id, revision, None)
        assert caught.value.code == code
    hub.create("team/empty")
    with pytest.raises(NotFoundError) as caught:
        open_revision("team/empty", None, None)
    assert caught.value.code == "adapter-not-found"


def test_a_revision_that_adpm_published_is_that_release(hub: Hub, tmp_path: Path) -> None:
    listing = opened(tmp_path, "hf://alice").publish(make(tmp_path, "text/sst-2", "1.0")).listing
    repository = hub.repositories["alice/text__sst-2"]
    for content in ({"README.md": b"# Words\n"}, {"notes.md": b""}):
        repository.upload(content)
        found = open_revision("alice/text__sst-2", None, None).listing
        assert (found.name, found.manifest) == ("text/sst-2", listing.manifest)
    repository.upload(adapter(tmp_path))
    repository.commit(deleted=["weights"])
    found = open_revision("alice/text__sst-2", None, None).listing
    assert found.manifest != listing.manifest  # somebody put another adapter there


def test_cards_of_odd_front_matter() -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "/home/me/model", "revision": None}
    for front in (
        "license: [mit, x]\nlanguage: english please\nbase_model: ../x\ntags: 3\nmodel-index: {}\npipeline_tag: 7 b",
        "a: &x 1\nb: *x",
        "- 1",
        "model-index: [1, {results: [2, {metrics: [3, {type: f1}]}]}]",
        "license: other\nlicense_name: {}",
    ):
        data = plain_card(PackageName("a/b"), Version("1.0"), config, f"---\n{front}\n---\n".encode(), {})
        card = read_card(data, "test")
        assert (card.license, card.language, card.task, card.base.model, card.metrics) == (None, None, None, None, ())
    front = "license: other\nlicense_name: llama3\nbase_model: [meta/Llama]\npipeline_tag: text-generation"
    card = read_card(
        plain_card(PackageName("a/b"), Version("1.0"), config, f"---\n{front}\n---\n".encode(), {}), "test"
    )
    assert (card.license, card.base.model, card.task) == ("llama3", "meta/Llama", "text-generation")


def test_resaving_depends_on_the_tensors_alone(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one", {"b": (2, 3), "a": (1,), "c": (0,)})
    data = (tmp_path / "one").read_bytes()
    header = read_header(data, source="test")
    parts = {name: data[tensor.begin : tensor.end] for name, tensor in reversed(list(header.tensors.items()))}
    place, head = 0, {}
    for name, part in parts.items():
        shape = list(header.tensors[name].shape)
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + len(part)]}
        place += len(part)
    raw = canonical(head)
    other = struct.pack("<Q", len(raw)) + raw + b"".join(parts.values())
    assert other != data
    assert resave(other, source="") == resave(data, source="") == resave(resave(data, source=""), source="")
    again = read_header(resave(data, source=""), source="test")
    assert {name: tensor.shape for name, tensor in again.tensors.items()} == {"a": (1,), "b": (2, 3), "c": (0,)}
