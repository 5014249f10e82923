"""A directory registry on the disk: its layout, its neighbours, its crashes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from adpm import limits
from adpm.core.names import Digest, PackageName
from adpm.errors import DocumentError, IntegrityError, NotFoundError, RegistryError
from adpm.formats.oci import read_release
from adpm.registry.directory import open_directory
from adpm.registry.placed import PlacedRegistry
from adpm.registry.records import write_note
from adpm.testing.making import make

NAME = PackageName("text/sst-2")


def open_at(path: Path) -> PlacedRegistry:
    return open_directory("here", str(path), path, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path, tmp_path: Path) -> PlacedRegistry:
    registry = open_at(root)
    registry.publish(make(tmp_path, "first/of-all"), init=True)
    return registry


def package(root: Path) -> Path:
    return root / "packages" / NAME


def versions(registry: PlacedRegistry) -> list[str]:
    return [str(listing.version) for listing in registry.versions(NAME)]


def test_the_layout(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    publication = make(tmp_path, files={"a.json": b"{}", "b.json": b"{}", "c": b"c"})
    listing = registry.publish(publication).listing
    release = read_release(publication.manifest, "test")
    blobs = {release.manifest, release.card, *(file.blob for file in release.files)}
    assert len(blobs) == 4
    expected = {
        "oci-layout",
        "index.json",
        f"releases/1.0.0/{listing.manifest.digest.hex}",
        *(f"blobs/sha256/{blob.digest.hex}" for blob in blobs),
    }
    found = {path.relative_to(package(root)).as_posix(): path for path in package(root).rglob("*") if path.is_file()}
    assert set(found) == expected
    assert {stat.S_IMODE(path.stat().st_mode) for name, path in found.items() if name != "index.json"} == {0o444}
    assert json.loads((root / "adpm-registry.json").read_bytes()) == {"format": 1}
    assert json.loads(found["oci-layout"].read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert list((root / ".adpm" / "tmp").iterdir()) == []


def test_no_registry_there(root: Path, tmp_path: Path) -> None:
    for work in (
        lambda: open_at(root).versions(NAME),
        lambda: open_at(root).packages(),
        lambda: open_at(root).publish(make(tmp_path)),
    ):
        with pytest.raises(NotFoundError, match="no registry at") as caught:
            work()
        assert caught.value.code == "registry-not-found"
        assert "--init" in str(caught.value.hint)
    assert not root.exists()


@pytest.mark.parametrize("marker", ['{"format": 2}', '{"format": true}', "{}", '{"format": 1, "more": 1}', "[]", "x"])
def test_a_marker_that_is_not_ours(root: Path, tmp_path: Path, marker: str) -> None:
    root.mkdir()
    (root / "adpm-registry.json").write_text(marker)
    for init in (True, False):
        with pytest.raises(DocumentError) as caught:
            open_at(root).publish(make(tmp_path), init=init)
        assert caught.value.code == "registry-invalid"
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == ["adpm-registry.json"]


def test_a_directory_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError) as caught:
        open_at(tmp_path / "file").publish(make(tmp_path), init=True)
    assert caught.value.code == "registry-failed"


def test_an_index_is_rebuilt_from_the_commit_points(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0", "2.0rc1"):
        registry.publish(make(tmp_path, version=version, requires=["lang/en"]))
    registry.yank(NAME, registry.versions(NAME)[1].version, "a reason")
    before = (package(root) / "index.json").read_bytes()
    for content in (None, b"", b"{", before[:-1], b'{"schemaVersion":2}'):
        if content is None:
            (package(root) / "index.json").unlink()
        else:
            (package(root) / "index.json").write_bytes(content)
        registry.rebuild_index(NAME)
        assert (package(root) / "index.json").read_bytes() == before
    with pytest.raises(NotFoundError) as caught:
        registry.rebuild_index(PackageName("text/other"))
    assert caught.value.code == "package-not-found"


def test_an_index_that_lies_is_rebuilt_right(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    (listing,) = [registry.publish(make(tmp_path, requires=["lang/en"])).listing]
    index = package(root) / "index.json"
    truth = index.read_bytes()
    index.write_bytes(truth.replace(b"lang/en", b"lang/de"))
    (lie,) = registry.versions(NAME)
    with pytest.raises(IntegrityError, match="lang/de") as caught:
        registry.confirmed(lie)
    assert caught.value.code == "index-mismatch"
    registry.rebuild_index(NAME)
    assert registry.versions(NAME) == (listing,)


@pytest.mark.parametrize("lost", [["1.1.0"], ["1.0.0", "1.1.0"]])
def test_the_next_publisher_lists_what_a_crash_left_unlisted(
    registry: PlacedRegistry, root: Path, tmp_path: Path, lost: list[str]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        if version == lost[0]:
            before = (package(root) / "index.json").read_bytes() if version != "1.0.0" else None
        registry.publish(make(tmp_path, version=version))
    if before is None:  # the crash came after the commit points, before the index was written
        (package(root) / "index.json").unlink()
    else:
        (package(root) / "index.json").write_bytes(before)
    again = open_at(root)
    assert not again.publish(make(tmp_path, version="1.1.0")).created
    again.publish(make(tmp_path, version="1.2.0"))
    assert versions(again) == ["1.0.0", "1.1.0", "1.2.0"]


def test_a_version_that_a_crash_left_unlisted_is_taken(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    registry.publish(make(tmp_path))
    (package(root) / "index.json").unlink()
    with pytest.raises(RegistryError) as caught:
        registry.publish(make(tmp_path, files={"weights": b"other"}))
    assert caught.value.code == "version-taken"


def test_an_entry_without_a_commit_point_does_not_stay(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        registry.publish(make(tmp_path, version=version))
    shutil.rmtree(package(root) / "releases" / "1.0.0")
    registry.rebuild_index(NAME)
    registry.publish(make(tmp_path, version="1.2.0"))
    assert versions(registry) == ["1.1.0", "1.2.0"]


def stop_early(registry: PlacedRegistry, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    def stopped(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(registry._place, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            work()


def test_what_a_writer_left_unlisted_is_listed_by_the_next(
    registry: PlacedRegistry, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0.0", "1.1.0"):
        registry.publish(make(tmp_path, version=version))
    stop_early(registry, monkeypatch, lambda: registry.publish(make(tmp_path, version="1.2.0")))
    stop_early(registry, monkeypatch, lambda: registry.yank(NAME, Version("1.0.0"), "wrong"))
    notes = root / ".adpm" / "notes" / "text+sst-2"
    assert len(list(notes.iterdir())) == 2
    (notes / "not a note").write_bytes(b"")
    claim = Version("9.0"), Digest.of(b"never committed")
    (notes / write_note(claim, 1)).write_bytes(b"")
    assert versions(registry) == ["1.0.0", "1.1.0"]
    registry.publish(make(tmp_path, version="1.3.0"))
    assert [(str(listing.version), listing.yanked) for listing in registry.versions(NAME)] == [
        ("1.0.0", "wrong"),
        ("1.1.0", None),
        ("1.2.0", None),
        ("1.3.0", None),
    ]
    assert list(notes.iterdir()) == []
    before = (package(root) / "index.json").read_bytes()
    registry.rebuild_index(NAME)
    assert (package(root) / "index.json").read_bytes() == before


_COUNT = """
import json, sys
from collections import Counter
from pathlib import Path
from adpm.registry.directory import open_directory
from adpm.testing.making import make
counts = Counter()
sys.addaudithook(lambda event, _: counts.update([event]) if event == "open" or event.startswith("os.") else None)
work = Path(sys.argv[1])
registry = open_directory("here", str(work / "registry"), work, None)
for i in range(60):
    publication = make(work, version=f"1.{i}")
    before = counts.copy()
    registry.publish(publication, init=True)
    if i in (2, 59):
        print(json.dumps(counts - before, sort_keys=True))
"""


def test_the_sixtieth_release_costs_what_the_third_did(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _COUNT, str(tmp_path)], capture_output=True, text=True, check=True)
    third, sixtieth = map(json.loads, done.stdout.splitlines())
    assert third == sixtieth


def test_two_releases_of_one_version_are_both_kept_and_named(
    registry: PlacedRegistry, root: Path, tmp_path: Path
) -> None:
    """It can't come about here, but a registry may have been copied from where it can."""
    other = open_at(tmp_path / "other")
    digests = [
        registry.publish(make(tmp_path)).listing.manifest.digest,
        other.publish(make(tmp_path, files={"weights": b"other"}), init=True).listing.manifest.digest,
    ]
    shutil.copytree(package(tmp_path / "other"), package(root), dirs_exist_ok=True)
    registry.rebuild_index(NAME)
    listings = registry.versions(NAME)
    assert {listing.manifest.digest for listing in listings} == set(digests)
    for listing in listings:
        assert all(digest in str(listing.yanked) for digest in digests)
        registry.confirmed(listing)
    with pytest.raises(RegistryError) as caught:
        registry.publish(make(tmp_path))
    assert caught.value.code == "version-taken"


def test_damage(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    publication = make(tmp_path)
    listing = registry.publish(publication).listing
    release = read_release(publication.manifest, "test")
    blob = package(root) / "blobs" / "sha256" / release.manifest.digest.hex
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    with pytest.raises(IntegrityError) as caught:
        registry.confirmed(listing)
    assert caught.value.code == "digest-mismatch"
    blob.write_bytes(b"short")
    (package(root) / "releases" / "1.0.0" / release.manifest.digest.hex).unlink()
    with pytest.raises(RegistryError) as damaged:
        registry.publish(publication)
    assert damaged.value.code == "blob-damaged"
    blob.unlink()
    registry.publish(publication)
    registry.confirmed(listing)


def test_files_of_others_do_no_harm(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    registry.publish(make(tmp_path))
    (package(root) / "releases" / "1.0.0" / ".DS_Store").write_bytes(b"")
    (package(root) / "releases" / "notes.txt").write_bytes(b"")
    (package(root) / "releases" / "v2").mkdir()
    (package(root) / "releases" / "v2" / ("0" * 64)).write_bytes(b"")
    (root / "packages" / "UPPER").mkdir()
    (root / "packages" / "UPPER" / "index.json").write_bytes(b"")
    registry.publish(make(tmp_path, version="1.1.0"))
    assert versions(registry) == ["1.0.0", "1.1.0"]
    assert registry.packages() == ("first/of-all", "text/sst-2")


def test_old_temporary_files_go_and_young_ones_stay(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    old, young = (root / ".adpm" / "tmp" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"")
    past = time.time() - limits.TEMPORARY_AGE_SECONDS - 60
    os.utime(old, (past, past))
    registry.publish(make(tmp_path))
    assert (old.exists(), young.exists()) == (False, True)


_PUBLISH = """
import sys
from pathlib import Path
from adpm.errors import RegistryError
from adpm.registry.directory import open_directory
from adpm.testing.making import make
root, work, me, same = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "same"
work.mkdir()
registry = open_directory("here", str(root), root, None)
for i in range(6):
    files = {"weights": b"%d" % me}
    version = f"{i}.0" if same else f"{i}.{me}"
    try:
        registry.publish(make(work, version=version, files=files))
        print(version, flush=True)
    except RegistryError as error:
        assert error.code == "version-taken", error
"""


def publish_in_processes(root: Path, work: Path, mode: str) -> list[str]:
    """What eight publishers at once were told is published."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PUBLISH, str(root), str(work / f"work{me}"), str(me), mode],
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(8)
    ]
    out = []
    for process in running:
        out += process.communicate()[0].split()
        assert process.returncode == 0
    return out


def test_many_publishers_lose_nothing(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    acknowledged = publish_in_processes(root, tmp_path, "different")
    assert len(acknowledged) == 48
    assert sorted(versions(registry)) == sorted(acknowledged)


def test_of_many_contents_of_a_version_one_wins(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    acknowledged = publish_in_processes(root, tmp_path, "same")
    assert Counter(acknowledged) == Counter(f"{i}.0" for i in range(6))
    assert versions(registry) == [f"{i}.0" for i in range(6)]
    for listing in registry.versions(NAME):
        registry.confirmed(listing)
    before = (package(root) / "index.json").read_bytes()
    registry.rebuild_index(NAME)
    assert (package(root) / "index.json").read_bytes() == before


def test_publishing_moves_only_what_is_lacking(registry: PlacedRegistry, root: Path, tmp_path: Path) -> None:
    registry.publish(make(tmp_path, files={"weights": b"large"}))
    blob = package(root) / "blobs" / "sha256" / Digest.of(b"large").hex
    before = blob.stat().st_mtime_ns
    publication = make(tmp_path, version="1.1.0", files={"weights": b"large"})
    for path in publication.sources.values():
        path.unlink()  # what need not be sent need not be read
    registry.publish(publication)
    assert blob.stat().st_mtime_ns == before
