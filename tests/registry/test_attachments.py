"""What is attached to releases in OCI registries: with the referrers API, without it, by others at the same time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from adpm.core.names import Digest, PackageName
from adpm.core.release import Attachment, Blob
from adpm.errors import AdpmError, DocumentError, IntegrityError, NotFoundError, RegistryError, UsageError
from adpm.formats.attachment import EMPTY, Part, read_referrers, with_referrer, write_attachment
from adpm.formats.json import canonical
from adpm.formats.oci import INDEX_TYPE, MANIFEST_TYPE
from adpm.ops.attachments import attach, attachments, save_attachment
from adpm.registry.distribution import Distribution
from adpm.registry.oci import OciRegistry
from adpm.registry.open import open_registry
from adpm.registry.port import Registry
from adpm.registry.referrers import add_referrer, referrers
from adpm.store.store import Store
from adpm.testing.making import make
from tests.net.clients import hasty
from tests.net.serving import Request, serve
from tests.registry.oci import docker_registry
from tests.registry.servers import need

NAME, VERSION = PackageName("text/sst-2"), Version("1.0.0")
KIND = "application/vnd.example.eval+json"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OciRegistry]:
    """docker-registry, which knows no referrers, with one release."""
    need("docker-registry")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with docker_registry(tmp_path / "server") as host:
        opened = open_registry("oci", f"oci://{host}/team", tmp_path)
        assert isinstance(opened, OciRegistry)
        opened.publish(make(tmp_path))
        yield opened


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "eval.json").write_text('{"accuracy": 0.9}')
    (tmp_path / "NOTES.md").write_text("# Notes\n")
    return [tmp_path / "eval.json", tmp_path / "NOTES.md"]


def test_what_is_attached_is_listed_and_comes_back(registry: OciRegistry, files: list[Path], tmp_path: Path) -> None:
    before = registry.versions(NAME)
    assert attachments(registry, NAME, VERSION) == ()
    first = attach(registry, NAME, VERSION, files, KIND)
    second = attach(registry, NAME, VERSION, files[:1], "text/plain")
    assert attach(registry, NAME, VERSION, files, KIND) == first  # again: nothing changes
    assert attachments(registry, NAME, VERSION) == (first, second)
    store = Store(tmp_path / "store")
    digest = first.manifest.digest.hex[:10]
    there = save_attachment(registry, NAME, VERSION, digest, to=tmp_path / "got", store=store)
    assert [path.name for path in there] == ["eval.json", "NOTES.md"]
    assert [path.read_bytes() for path in there] == [path.read_bytes() for path in files]
    with pytest.raises(UsageError) as caught:
        save_attachment(registry, NAME, VERSION, digest, to=tmp_path / "got", store=store)
    assert caught.value.code == "file-exists"
    assert registry.versions(NAME) == before
    assert registry.channels(NAME) == {}


def test_what_is_not_attached(registry: OciRegistry, files: list[Path], tmp_path: Path) -> None:
    there = [attach(registry, NAME, VERSION, files, f"text/x{i}").manifest.digest.hex for i in range(17)]
    common = next(digest[0] for digest in there if sum(other[0] == digest[0] for other in there) > 1)
    none = next(f"{i:064x}" for i in range(100) if f"{i:064x}" not in there)
    for digest, code in (
        (none, "attachment-not-found"),
        ("", "attachment-not-found"),
        (common, "attachment-ambiguous"),
    ):
        with pytest.raises(AdpmError) as caught:
            save_attachment(registry, NAME, VERSION, digest, to=tmp_path / "got", store=Store(tmp_path / "store"))
        assert caught.value.code == code
    assert not (tmp_path / "got").exists()
    with pytest.raises(NotFoundError) as missing:
        attachments(registry, NAME, Version("2.0"))
    assert missing.value.code == "version-not-found"
    for kind in ("text", "a/b/c", "a b/c", "text/plain; charset=utf-8", ""):
        with pytest.raises(UsageError) as refused:
            attach(registry, NAME, VERSION, files, kind)
        assert refused.value.code == "media-type-invalid"
    with pytest.raises(UsageError) as unreadable:
        attach(registry, NAME, VERSION, [tmp_path / "nothing"], KIND)
    assert unreadable.value.code == "file-unreadable"


def test_other_kinds_of_registries_hold_none(files: list[Path], tmp_path: Path) -> None:
    here = open_registry("here", str(tmp_path / "here"), tmp_path)
    here.publish(make(tmp_path), init=True)
    for work in (lambda: attachments(here, NAME, VERSION), lambda: attach(here, NAME, VERSION, files, KIND)):
        with pytest.raises(RegistryError) as caught:
            work()
        assert caught.value.code == "attachments-unsupported"


class Raced(Distribution):
    """Another writer, who read the list before we wrote it, writes it after us, once or always."""

    def __init__(self, root: str, *, always: bool) -> None:
        super().__init__(root, hasty())
        self._left = 1000 if always else 1
        self._seen: bytes | None = None

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Any:
        is_list = reference.startswith("sha256-")
        before = self.manifest(repository, reference) if is_list else None
        out = super().put_manifest(repository, reference, data, media_type)
        if is_list and self._left:
            self._left -= 1
            other = write_attachment(Blob.of(b"%d" % self._left), "text/other", [])
            super().put_manifest(repository, Digest.of(other), other, MANIFEST_TYPE)
            super().put_manifest(repository, reference, with_referrer(before, other, "the list"), INDEX_TYPE)
        return out


@pytest.mark.parametrize("always", [False, True])
def test_another_writer_of_the_list(registry: OciRegistry, always: bool) -> None:
    root = registry.address.replace("oci://", "http://").removesuffix("/team")
    api, repository = Raced(root, always=always), f"team/{NAME}"
    upload = Distribution(root, hasty())
    release = registry.listing(NAME, VERSION).manifest
    registry.attach(NAME, release, write_attachment(release, "text/first", []), {Blob.of(EMPTY): EMPTY})
    ours = write_attachment(release, KIND, [])
    if always:
        with pytest.raises(RegistryError) as caught:
            add_referrer(api, repository, release.digest, ours)
        assert caught.value.code == "attachment-unlisted"
    else:
        add_referrer(api, repository, release.digest, ours)
        kinds = [entry.kind for entry in referrers(upload, repository, release.digest)]
        assert kinds == ["text/first", "text/other", KIND]


def test_entries_of_others_keep_what_they_have() -> None:
    entry = {
        "mediaType": MANIFEST_TYPE,
        "digest": Digest.of(b"theirs"),
        "size": 6,
        "artifactType": "application/x",
        "annotations": {"a": "\u00fc"},
        "platform": {"os": "linux"},
    }
    old = {"mediaType": MANIFEST_TYPE, "digest": Digest.of(b"older"), "size": 5}
    ours = write_attachment(Blob.of(b"release"), KIND, [Part("x", Blob.of(b"x"))])
    data = json.dumps({"schemaVersion": 2, "manifests": [entry, old]}).encode()
    after = with_referrer(data, ours, "the list")
    assert json.loads(after)["manifests"][:2] == [entry, old]
    assert [found.kind for found in read_referrers(after, "the list")] == ["application/x", MANIFEST_TYPE, KIND]
    assert with_referrer(after, ours, "the list") == after


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[]",
        b'{"manifests": {}}',
        b'{"manifests": [{"digest": "sha256:0", "size": 1}]}',
        canonical({"manifests": [{"digest": Digest.of(b""), "size": -1}]}),
    ],
)
def test_lists_that_are_none(data: bytes) -> None:
    with pytest.raises(DocumentError):
        read_referrers(data, "the list")
    with serve(lambda request: request.answer(200, data)) as served, pytest.raises(DocumentError) as caught:
        referrers(Distribution(served.url, hasty()), "team/x", Digest.of(b"release"))
    assert caught.value.code == "registry-invalid"


def test_a_registry_with_the_referrers_api() -> None:
    """Written by hand: none that can be installed has it. Pages, a repeated entry, and no tag."""
    release, manifests = Blob.of(b"release"), {}
    ours = write_attachment(release, KIND, [])

    def answer(request: Request) -> None:
        path = request.path.partition("?")[0]
        if request.method == "PUT":
            manifests[path.rpartition("/")[2]] = request.body
            request.answer(201, OCI_Subject=release.digest)
        elif re.fullmatch(r"/v2/team/x/referrers/sha256:[0-9a-f]{64}", path):
            listed = [{"digest": digest, "size": len(data)} for digest, data in manifests.items()]
            first = "page=2" not in request.path
            entries = [{**entry, "artifactType": KIND, "mediaType": MANIFEST_TYPE} for entry in listed]
            link = {"Link": f'<{path}?page=2>; rel="next"'} if first else {}
            request.answer(200, canonical({"schemaVersion": 2, "manifests": entries}), **link)
        else:
            request.answer(404)

    with serve(answer) as served:
        api = Distribution(served.url, hasty())
        add_referrer(api, "team/x", release.digest, ours)
        assert referrers(api, "team/x", release.digest) == (Attachment(KIND, Blob.of(ours)),)
    assert list(manifests) == [Digest.of(ours)]
    assert [request.method for request in served.requests] == ["PUT", "GET", "GET"]


def _attached(registry: Registry, manifest: bytes, *blobs: bytes) -> str:
    """Attach a manifest as it is, with these blobs; its digest."""
    release = registry.listing(NAME, VERSION).manifest
    registry.attach(NAME, release, manifest, {Blob.of(data): data for data in (EMPTY, *blobs)})
    return Digest.of(manifest).hex


def test_what_others_attached_stays_where_it_belongs(registry: OciRegistry, tmp_path: Path) -> None:
    release = registry.listing(NAME, VERSION).manifest
    titles = {b"0": "../../escape", b"1": "/etc/x", b"2": ".hidden", b"3": "a/b", b"4": ""}
    value = json.loads(write_attachment(release, KIND, [Part(title, Blob.of(data)) for data, title in titles.items()]))
    del value["layers"][4]["annotations"]
    digest = _attached(registry, canonical(value), *titles)
    store, to = Store(tmp_path / "store"), tmp_path / "deep" / "got"
    there = save_attachment(registry, NAME, VERSION, digest, to=to, store=store)
    names = [Digest.of(data).hex for data in titles]
    assert [path.relative_to(to).as_posix() for path in there] == [*names[:3], "a-b", names[4]]
    assert [path.read_bytes() for path in there] == list(titles)
    twice = write_attachment(release, KIND, [Part("x", Blob.of(b"0")), Part("X", Blob.of(b"0"))])
    there = save_attachment(registry, NAME, VERSION, _attached(registry, twice, b"0"), to=to, store=store)
    assert [path.name for path in there] == [f"0-{names[0]}", f"1-{names[0]}"]


def test_an_attachment_of_another_release(registry: OciRegistry, tmp_path: Path) -> None:
    other = write_attachment(Blob.of(b"another"), KIND, [])
    digest = _attached(registry, other)
    with pytest.raises(DocumentError) as caught:
        save_attachment(registry, NAME, VERSION, digest, to=tmp_path / "got", store=Store(tmp_path / "store"))
    assert caught.value.code == "attachment-invalid"


def test_files_that_change_on_the_way(
    registry: OciRegistry, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = attach(registry, NAME, VERSION, files, KIND)
    monkeypatch.setattr(OciRegistry, "_blob_chunks", lambda *_: iter([b"other bytes, of the len"]))
    with pytest.raises(IntegrityError) as caught:
        save_attachment(
            registry, NAME, VERSION, there.manifest.digest, to=tmp_path / "got", store=Store(tmp_path / "store")
        )
    assert caught.value.code == "digest-mismatch"
    assert not (tmp_path / "got").exists()
