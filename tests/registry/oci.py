"""Debian's docker-registry on loopback, with and without a password, and the login for it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.net.serving import unused_port
from tests.registry.servers import need, wait_for_port

USER, PASSWORD = "u", "pw"
_HTPASSWD = "u:$2b$05$4isv/nF2ItOFELpIlrxiZeA/JMzoTczN4icWR4.cT3bn6aEQm2ijm\n"  # bcrypt of that password


@contextmanager
def docker_registry(work: Path, *, password: bool = False, auth: object = None) -> Iterator[str]:
    """A registry with its files below ``work``; ``HOST:PORT``. ``auth`` is its own setting of that name."""
    need("docker-registry")
    port = unused_port()
    work.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(work / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if password:
        (work / "htpasswd").write_text(_HTPASSWD)
        auth = {"htpasswd": {"realm": "adpm tests", "path": str(work / "htpasswd")}}
    if auth is not None:
        settings["auth"] = auth
    config = work / "config.yml"
    config.write_text(json.dumps(settings))
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def log_in(directory: Path, host: str, user: str = USER, password: str = PASSWORD) -> None:
    """What ``docker login`` writes; ``DOCKER_CONFIG`` must name ``directory``."""
    directory.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}, "HttpHeaders": {}}))
