"""What `adpm lock` reads of a registry of 1,000,000 releases: `python -m tests.bench.resolver_registry`.

The registry is served over HTTP by a process that makes each document when it is asked for it: 50,000 packages of 20
releases, of which each requires one of 12 shared packages. The command is the real one, from its command line to its
lock, in a project that wants 20 of them. Prints requests, bytes and CPU time, first with nothing cached, then with
the indexes cached (`adpm update`), then with nothing to do.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar, Final

from packaging.version import Version

from adpm.core.base import BaseIdentity, Shape
from adpm.core.names import Digest, PackageName
from adpm.core.release import Blob, Card, File, Listing, Method
from adpm.core.requirement import Requirement
from adpm.formats.card import write_card
from adpm.formats.oci import write_index, write_release
from tests.bench.startup import children

PACKAGES: Final = 50_000
RELEASES: Final = 20
SHARED: Final = 12
WANTED: Final = 20
BASE: Final = BaseIdentity("bench/base", None, Shape("bert", (("hidden_size", 768),)), None)


def documents(name: str) -> tuple[bytes, dict[str, bytes]]:
    """The index of a package, and its releases' manifests and cards by digest."""
    kind, _, number = name.partition("/")
    listings: list[Listing] = []
    blobs: dict[str, bytes] = {}
    for v in range(RELEASES):
        wanted = f"lang/l{int(number[1:]) % SHARED:05d} >=1.{v // 2}"
        requires = () if kind == "lang" else (Requirement.parse(wanted),)
        package, version = PackageName(name), Version(f"1.{v}")
        card = write_card(Card(package, version, BASE, Method("peft", "lora"), requires))
        weights = Blob(Digest.of(f"{name} {v}".encode()), 1_000_000)
        manifest = write_release(Blob.of(card), [File("adapter_model.safetensors", weights)])
        blobs |= {Digest.of(card).hex: card, Digest.of(manifest).hex: manifest}
        blob = Blob(Digest.of(manifest), len(manifest))
        listings.append(Listing(package, version, blob, requires, BASE, published="2026-01-31T12:00:00Z"))
    return write_index(listings), blobs


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests: ClassVar[Counter[str]] = Counter()
    sent: ClassVar[Counter[str]] = Counter()
    blobs: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        kind, data = self._found()
        tag = f'"{Digest.of(data or b"").short}"'
        known = self.headers.get("If-None-Match") == tag
        body = b"" if known or data is None else data
        self.send_response(404 if data is None else 304 if known else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.requests[kind] += 1
        self.sent[kind] += len(body)

    def _found(self) -> tuple[str, bytes | None]:
        path = self.path.strip("/")
        if path == "adpm-registry.json":
            return "registry", b'{"format": 1}\n'
        if path.endswith("/index.json"):
            name = path.removeprefix("packages/").removesuffix("/index.json")
            index, blobs = documents(name)
            self.blobs.update(blobs)
            return "index", index
        if "/blobs/sha256/" in path:
            return "manifest or card", self.blobs.get(path.rpartition("/")[2])
        return "other", None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def serve(pipe: Connection) -> None:
    """Serve until told to end; answers each message with what was asked for since the last."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while pipe.recv():
        pipe.send((dict(Handler.requests), dict(Handler.sent)))
        Handler.requests.clear()
        Handler.sent.clear()


def adpm(root: Path, *arguments: str) -> float:
    """Seconds of CPU time of a command, which must succeed."""
    before = children()
    subprocess.run(
        [sys.executable, "-m", "adpm", *arguments],
        cwd=root,
        env=os.environ | {"ADPM_HOME": str(root / "home")},
        check=True,
        capture_output=True,
    )
    return children() - before


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        lines = [f"  a{i}: lora/p{i * (PACKAGES // WANTED):05d} >=1.2,<2" for i in range(WANTED)]
        head = ["base: bench/base", f"registries: [{{name: big, url: 'http://127.0.0.1:{port}'}}]", "adapters:"]
        (root / "adapter.yaml").write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
        whole = len(documents("lora/p00001")[0]) * PACKAGES
        count = f"{PACKAGES * RELEASES:,} releases of {PACKAGES:,} packages"
        print(f"{count}; all their indexes would be {whole / 1e6:,.0f} MB; {WANTED} requirements")
        print(f"\n{'':28}{'indexes':>9}{'their bytes':>14}{'cards etc.':>12}{'their bytes':>14}{'CPU':>10}")
        rows = {"nothing cached": "lock", "indexes cached, update all": "update --dry-run", "nothing to do": "lock"}
        for title, command in rows.items():
            cpu = adpm(root, *command.split())
            ours.send(True)
            requests, sent = ours.recv()
            print(
                f"{title:28}{requests.get('index', 0):9,}{sent.get('index', 0):14,}"
                f"{requests.get('manifest or card', 0):12,}{sent.get('manifest or card', 0):14,}{cpu * 1e3:7.0f} ms"
            )
        locked = len(json.loads((root / "adapter.lock").read_text(encoding="utf-8"))["packages"])
        print(f"\n{locked} packages are locked; an index is read for each of these and for no other")
    ours.send(False)


if __name__ == "__main__":
    main()
