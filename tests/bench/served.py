"""What the download benches fetch: a registry of real releases, the same bytes as wheels, as an OCI artifact and as a
Hub's repository, and nginx (on loopback) that serves them all; a proxy that delays answers."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.version import Version

from adpm.core.base import BaseIdentity, Shape
from adpm.core.lock import Lock, LockedAdapter, LockedPackage
from adpm.core.names import Alias, Digest, PackageName
from adpm.core.release import Blob, Card, File, Method
from adpm.core.requirement import Requirement
from adpm.formats.card import write_card
from adpm.formats.json import canonical
from adpm.formats.lock import write_lock
from adpm.formats.oci import write_release

HUB: Final = "bench/hub"
"""The repository that ``add_hub`` makes."""

_COMMIT: Final = "c0ffee" * 6 + "c0de"

BASE: Final = BaseIdentity("bench/base", None, Shape("bert", (("hidden_size", 768),)), None)

_NGINX: Final = """
daemon off; worker_processes 2; pid {work}/pid; error_log {work}/error.log warn; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/octet-stream; types {{ text/html html; application/json json; }}
  sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  server {{
    listen 127.0.0.1:{port}; root {root}; index index.html;
    location ^~ /api/ {{ types {{ }} default_type application/json; }}
    location ~ ^/{hub}/resolve/[^/]+/(?<file>.+)$ {{
      add_header X-Repo-Commit {commit};
      add_header X-Linked-Etag '"$file"';  # nginx's own are of time and size: all alike
    }}
    location = /v2/ {{ return 200 "{{}}"; }}
    location ~ ^/v2/.*/manifests/ {{ default_type application/vnd.oci.image.manifest.v1+json; types {{ }} }}
  }}
}}
"""


@dataclass(frozen=True)
class Made:
    """A project whose lock pins ``packages``; the weights' paths below the server's root, and their bytes in all."""

    project: Path
    root: Path
    weights: tuple[str, ...]
    size: int
    requests: int


def make(work: Path, *, adapters: int, size: int, port: int, each: int = 1) -> Made:
    """``adapters`` packages with ``each`` files of ``size`` random bytes, below ``work``/root; the project
    ``work``/project locks them all from a registry at ``port``. No blob is in two packages."""
    root, project = work / "root", work / "project"
    root.mkdir()
    project.mkdir()
    packages: dict[str, LockedPackage] = {}
    aliases: dict[Alias, LockedAdapter] = {}
    (root / "adpm-registry.json").write_bytes(canonical({"format": 1}))
    lines = ["base: bench/base", f'registries: [{{name: web, url: "http://127.0.0.1:{port}"}}]', "adapters:"]
    weights = []
    for i in range(adapters):
        name, alias = PackageName.parse(f"bench/a{i:04d}"), Alias.parse(f"a{i:04d}")
        card = write_card(Card(name, Version("1.0"), BASE, Method("adapterhub", "bottleneck")))
        blobs = root / "packages" / name / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        contents = [os.urandom(size) for _ in range(each)]
        files = tuple(File(f"w{k:04d}.safetensors", Blob(Digest.of(data), size)) for k, data in enumerate(contents))
        manifest = write_release(Blob.of(card), files)
        for content in (*contents, card, manifest):
            (blobs / Digest.of(content).hex).write_bytes(content)
        weights += [str((blobs / file.blob.digest.hex).relative_to(root)) for file in files]
        packages[name] = LockedPackage(
            name,
            Version("1.0"),
            "web",
            Blob(Digest.of(manifest), len(manifest)),
            Blob(Digest.of(card), len(card)),
            files,
        )
        aliases[alias] = LockedAdapter(Requirement.parse(f"{name} >=1,<2"))
        lines.append(f"  {alias}: {name} >=1,<2")
    (project / "adapter.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    base = BaseIdentity("bench/base", None, None, None)
    (project / "adapter.lock").write_bytes(write_lock(Lock(base, aliases, {}, packages)))
    return Made(project, root, tuple(weights), len(weights) * size, len(weights) + adapters)


def add_wheels(made: Made) -> list[str]:
    """Each of the weights as a wheel (stored, not compressed) in a simple index below ``/simple``; their names."""
    names = []
    for i, path in enumerate(made.weights):
        name = f"bench_w{i:04d}"
        directory = made.root / "simple" / name.replace("_", "-")
        directory.mkdir(parents=True)
        wheel = directory / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        contents = {
            f"{name}/weights": (made.root / path).read_bytes(),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = [f"{key},sha256={_urlsafe(data)},{len(data)}" for key, data in contents.items()]
        with zipfile.ZipFile(wheel, "w") as archive:
            for key, data in contents.items():
                archive.writestr(key, data)
            archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        page = f'<!DOCTYPE html><html><body><a href="{wheel.name}#sha256={digest}">{wheel.name}</a></body></html>'
        (directory / "index.html").write_text(page)
        names.append(name)
    return names


def add_artifact(made: Made) -> None:
    """All weights as the layers of one OCI artifact, ``bench/all:1.0``, which the same server serves below ``/v2``."""
    repository = made.root / "v2" / "bench" / "all"
    (repository / "blobs").mkdir(parents=True)
    (repository / "manifests").mkdir()
    files = []
    for i, path in enumerate(made.weights):
        digest = f"sha256:{Path(path).name}"
        os.link(made.root / path, repository / "blobs" / digest)
        files.append(File(f"w{i:04d}", Blob(Digest(digest), (made.root / path).stat().st_size)))
    card = b"{}"
    manifest = write_release(Blob.of(card), files)
    (repository / "blobs" / str(Digest.of(card))).write_bytes(card)
    for reference in ("1.0", str(Digest.of(manifest))):
        (repository / "manifests" / reference).write_bytes(manifest)


def add_hub(made: Made) -> None:
    """All weights as the files of ``HUB``: to ``huggingface_hub`` the same server is a Hub."""
    files = made.root / HUB / "resolve" / _COMMIT
    files.mkdir(parents=True)
    listed = []
    for i, path in enumerate(made.weights):
        name = f"w{i:04d}.safetensors"
        os.link(made.root / path, files / name)
        entry = {"path": name, "size": (files / name).stat().st_size, "oid": f"{i:040x}"}
        listed.append({"type": "file", "rfilename": name, **entry})
    api = made.root / "api" / "models" / HUB
    for directory in ("revision", "tree"):
        (api / directory).mkdir(parents=True)
    (api / "revision" / "main").write_bytes(canonical({"id": HUB, "sha": _COMMIT, "siblings": listed}))
    (api / "tree" / _COMMIT).write_bytes(canonical(listed))


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def nginx(root: Path, work: Path, port: int) -> Iterator[None]:
    """nginx with two workers and ``sendfile`` over ``root``."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.exit("this bench needs nginx (Debian: nginx-light)")
    work.mkdir()
    config = work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    config.write_text(_NGINX.format(work=work, root=root, port=port, user=user, hub=HUB, commit=_COMMIT))
    with _running([program, "-c", str(config), "-e", str(work / "error.log")], port):
        yield


@contextmanager
def delayed(port: int, target: int, seconds: float) -> Iterator[None]:
    """A proxy at ``port`` for the server at ``target`` whose every answer comes ``seconds`` later."""
    script = Path(__file__).with_name("delay.py")
    with _running([sys.executable, str(script), str(port), str(target), str(seconds)], port):
        yield


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        for _ in range(1000):
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended at once")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()
