"""The test server against the library itself: what adpm's tests stand on."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tests.registry.hub.server import Hub

ALICE, READER, WRONG = "hf_alice", "hf_reader", "hf_wrong"
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=ALICE)


def add(path: str, data: bytes, directory: Path) -> CommitOperationAdd:
    (directory / "file").write_bytes(data)
    return CommitOperationAdd(path, (directory / "file").open("rb"))


def test_a_repository_from_its_creation_to_its_end(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    assert api.whoami()["name"] == "alice"
    assert api.create_repo("alice/x", private=True).repo_id == "alice/x"
    api.create_repo("alice/x", exist_ok=True)
    readme = b"---\nlibrary_name: peft\ntags: [adpm]\n---\n# x\n"
    with (tmp_path / "w").open("wb+") as weights:
        weights.write(WEIGHTS)
        weights.seek(0)
        first = api.create_commit(
            "alice/x",
            [CommitOperationAdd("README.md", readme), CommitOperationAdd("sub/w.safetensors", weights)],
            commit_message="first",
        )
    assert hub.repositories["alice/x"].read("sub/w.safetensors") == WEIGHTS
    api.create_tag("alice/x", tag="1.0", revision=first.oid)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag("alice/x", tag="1.0", revision=first.oid)
    assert caught.value.response.status_code == 409
    api.create_branch("alice/x", branch="next", revision="1.0")
    second = api.create_commit("alice/x", [CommitOperationDelete("sub/", is_folder=True)], commit_message="second")
    refs = api.list_repo_refs("alice/x")
    assert {(ref.name, ref.target_commit) for ref in refs.tags} == {("1.0", first.oid)}
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second.oid, "next": first.oid}
    assert [commit.title for commit in api.list_repo_commits("alice/x")] == ["second", "first", "initial commit"]
    assert api.model_info("alice/x", revision="1.0").sha == first.oid
    tree = {entry.path: entry for entry in api.list_repo_tree("alice/x", recursive=True, revision="1.0")}
    assert set(tree) == {".gitattributes", "README.md", "sub", "sub/w.safetensors"}
    (info,) = api.get_paths_info("alice/x", ["sub/w.safetensors"], revision="1.0")
    assert isinstance(info, RepoFile)
    assert info.lfs is not None
    assert info.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert [(model.id, model.library_name) for model in api.list_models(author="alice")] == [("alice/x", "peft")]
    api.delete_tag("alice/x", tag="1.0")
    api.delete_repo("alice/x")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("alice/x")


def test_a_stale_parent_is_refused(hub: Hub, api: HfApi) -> None:
    head = hub.create("alice/x").commit_of("main")
    api.create_commit("alice/x", [CommitOperationAdd("a", b"1")], commit_message="a", parent_commit=head)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit("alice/x", [CommitOperationAdd("a", b"2")], commit_message="b", parent_commit=head)
    assert caught.value.response.status_code == 412
    assert hub.repositories["alice/x"].read("a") == b"1"


def test_files_come_whole_and_in_parts(hub: Hub, tmp_path: Path) -> None:
    repository = hub.create("alice/x")
    commit = repository.upload({"w.bin": WEIGHTS, "a.json": b"{}", "deep/er/b.json": b"[]"}, tag="v1")
    for path, data in (("w.bin", WEIGHTS), ("a.json", b"{}"), ("deep/er/b.json", b"[]")):
        there = hf_hub_download("alice/x", path, revision="v1", endpoint=hub.url)
        assert Path(there).read_bytes() == data
        assert f"/snapshots/{commit}/" in there
    assert {path.name for path in Path(snapshot_download("alice/x", endpoint=hub.url)).iterdir()} >= {"w.bin", "deep"}
    for path, data in (("w.bin", WEIGHTS), ("a.json", b"{}")):
        request = urllib.request.Request(f"{hub.url}/alice/x/resolve/main/{path}", headers={"Range": "bytes=1-"})
        with urllib.request.urlopen(request) as answer:
            assert (answer.status, answer.read()) == (206, data[1:])


def test_what_is_not_there_or_not_for_everybody(hub: Hub) -> None:
    hub.create("alice/secret", private=True).upload({"a": b"1"})
    gated = hub.create("alice/gated")
    gated.gated = True
    gated.upload({"a": b"1"})

    def download(repository: str, token: str | bool, path: str = "a", revision: str = "main") -> bytes:
        there = hf_hub_download(repository, path, revision=revision, token=token, endpoint=hub.url)
        return Path(there).read_bytes()

    for token, status in ((False, 401), ("hf_bob", 404)):
        for repository in ("alice/secret", "alice/none"):
            with pytest.raises(RepositoryNotFoundError) as missing:
                download(repository, token)
            assert missing.value.response.status_code == status
    for token, status in ((False, 401), ("hf_bob", 403)):
        with pytest.raises(GatedRepoError) as locked:
            download("alice/gated", token)
        assert locked.value.response.status_code == status
        assert HfApi(endpoint=hub.url, token=token).model_info("alice/gated").gated == "manual"
    assert download("alice/secret", "hf_alice") == download("alice/gated", "hf_alice") == b"1"
    with pytest.raises(EntryNotFoundError):
        download("alice/gated", "hf_alice", "b")
    with pytest.raises(RevisionNotFoundError):
        download("alice/gated", "hf_alice", revision="none")
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.url, token=WRONG).list_repo_refs("alice/secret")
    assert refused.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.url, token=READER).create_tag("alice/secret", tag="1.0")
    assert refused.value.response.status_code == 403


def test_another_case_leads_to_the_repository(hub: Hub) -> None:
    hub.create("alice/Case-Study").upload({"a.json": b"{}"}, tag="1.0")
    api = HfApi(endpoint=hub.url, token=False)
    assert [ref.name for ref in api.list_repo_refs("alice/case-study").tags] == ["1.0"]
    assert Path(hf_hub_download("alice/case-study", "a.json", endpoint=hub.url)).read_bytes() == b"{}"


def test_a_tree_of_many_pages(hub: Hub) -> None:
    hub.create("alice/x").upload({f"{number:03}.json": b"{}" for number in range(60)})
    api = HfApi(endpoint=hub.url, token=False)
    assert len(list(api.list_repo_tree("alice/x", recursive=True))) == 61
