"""Real servers over a directory, on loopback: nginx as people run it, and Python's own as the plainest there is."""

from __future__ import annotations

import functools
import getpass
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.net.serving import unused_port

_NGINX = """
daemon off; worker_processes 1; pid {work}/pid; error_log {work}/error.log warn; {user}
events {{ worker_connections 256; }}
http {{
  access_log off; default_type application/octet-stream; types {{ application/json json; }}
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  gzip on; gzip_types application/json; gzip_min_length 1; gzip_static on;
  log_format sent "$request_method $body_bytes_sent $uri";
  server {{ listen 127.0.0.1:{port}{tls}; root {root}; {more} }}
}}
"""


def need(*programs: str) -> None:
    """Skip where a program is not installed; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        reason = f"not installed here: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1000):
        if process.poll() is not None:
            pytest.fail(f"the server ended at once: {process.args!r}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    pytest.fail("the server did not come up")


@contextmanager
def nginx(root: Path, work: Path, more: str = "", *, modules: str = "", tls: bool = False) -> Iterator[str]:
    """nginx over ``root``; ``more`` are directives of its server, ``modules`` what it loads. ``tls``: as localhost.
    The log format ``sent`` has method, bytes of the body, and path."""
    need("nginx")
    work.mkdir()
    port = unused_port()
    config = work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    config.write_text(
        modules + _NGINX.format(work=work, root=root, port=port, user=user, more=more, tls=" ssl" if tls else "")
    )
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(work / "error.log")])
    try:
        wait_for_port(port, process)
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def basic_auth(work: Path, user: str, password: str) -> str:
    """Directives that let in ``user`` alone."""
    (work / "users").write_text(f"{user}:{{PLAIN}}{password}\n")
    return f'auth_basic "adapters"; auth_basic_user_file {work / "users"};'


@contextmanager
def plain(root: Path) -> Iterator[str]:
    """Python's http.server: no ranges, no ETags, no compression, a new connection each time."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            return  # a client may hang up

    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Sshd:
    """An SSH server that serves SFTP, and a home directory whose ``.ssh`` knows its key and has one that it takes."""

    place: str
    home: Path


@contextmanager
def sshd(work: Path) -> Iterator[Sshd]:
    """OpenSSH's own server, as the user who runs the tests."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        need("sshd")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it separates privileges
    keys = work / ".ssh"
    keys.mkdir(parents=True, mode=0o700)
    for name in ("host", "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    port = unused_port()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {(keys / 'host.pub').read_text()}")
    config = work / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {keys / 'host'}\nAuthorizedKeysFile {keys / 'id_ed25519.pub'}\n"
        f"PidFile {work / 'pid'}\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\n"
    )
    process = subprocess.Popen([str(program), "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield Sshd(f"{getpass.getuser()}@127.0.0.1:{port}", work)
    finally:
        process.terminate()
        process.wait()
