"""A package directory is an OCI layout: skopeo, which does not know adpm, moves releases and keeps their digests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm.core.names import PackageName
from adpm.registry.directory import open_directory
from adpm.store.store import Store
from adpm.testing.making import make
from tests.net.serving import unused_port
from tests.registry.servers import need, wait_for_port

NAME = PackageName("text/sst-2")


@pytest.fixture
def oci_registry(tmp_path: Path) -> Iterator[str]:
    need("docker-registry", "skopeo")
    port = unused_port()
    config = tmp_path / "config.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(tmp_path / "oci")}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def skopeo(*arguments: str) -> bytes:
    done = subprocess.run(["skopeo", *arguments], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_there_and_back_with_equal_digests(oci_registry: str, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    registry = open_directory("here", str(root), tmp_path, None)
    weights = bytes(range(256)) * 4000
    versions = {}
    for version in ("1.0.0", "2.0rc1"):
        files = {"weights.safetensors": weights + version.encode(), "adapter_config.json": b"{}"}
        publication = make(tmp_path, version=version, files=files)
        versions[version] = registry.publish(publication, init=True).listing, publication
    registry.yank(NAME, versions["1.0.0"][0].version, "it stays, and moves")
    for version, (listing, publication) in versions.items():
        away, back = f"docker://{oci_registry}/{NAME}:{version}", f"oci:{tmp_path / 'back'}:{version}"
        skopeo(
            "copy", "--preserve-digests", f"oci:{root / 'packages' / NAME}:{version}", away, "--dest-tls-verify=false"
        )
        raw = skopeo("inspect", "--raw", "--tls-verify=false", away)
        assert raw == publication.manifest
        skopeo("copy", "--preserve-digests", away, back, "--src-tls-verify=false")
        assert skopeo("inspect", "--raw", back) == publication.manifest
        blobs = tmp_path / "back" / "blobs" / "sha256"
        assert (blobs / listing.manifest.digest.hex).read_bytes() == publication.manifest
        store = Store(tmp_path / "store")
        release = registry.confirmed(listing).release
        for blob in (release.card, *(file.blob for file in release.files)):
            store.put([(blobs / blob.digest.hex).read_bytes()], blob)
