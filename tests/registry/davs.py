"""Real WebDAV servers on loopback over empty directories: Apache's mod_dav, wsgidav, nginx with its extension."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.net.serving import unused_port
from tests.registry.servers import need, nginx, wait_for_port

_MODULES = Path("/usr/lib/apache2/modules")
_NAMES = ("mpm_event", "authz_core", "dav", "dav_fs", "dav_lock")
_NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
_numbers = itertools.count()
_APACHE = """
ServerRoot {work}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {work}/pid
ErrorLog {work}/error.log
{load}
{user}
StartServers 2
DocumentRoot {root}
DavLockDB {work}/locks
<Directory {root}>
  Dav On
  Require all granted
</Directory>
"""


@dataclass(frozen=True)
class Dav:
    """A server over the directory ``root``."""

    url: str
    root: Path

    def place(self) -> tuple[str, Path]:
        """A new, empty collection: its URL and its directory."""
        name = f"registries/{next(_numbers)}"
        directory = self.root / name
        for path in (directory.parent, directory):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)  # Apache gives up root's rights
        return f"{self.url}/{name}", directory


@contextmanager
def apache() -> Iterator[Dav]:
    """In a directory of its own: Apache gives up root's rights, and then can't pass through those of the tests."""
    need("apache2")
    with tempfile.TemporaryDirectory(prefix="adpm-apache-") as directory:
        work, port = Path(directory), unused_port()
        root = work / "root"
        root.mkdir()
        for path in (root, work):
            path.chmod(0o777)
        load = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _NAMES)
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        config = work / "apache.conf"
        config.write_text(_APACHE.format(work=work, root=root, port=port, load=load, user=user))
        with _running(["apache2", "-f", str(config), "-DFOREGROUND"], port, work):
            yield Dav(f"http://127.0.0.1:{port}", root)


@contextmanager
def wsgidav(work: Path) -> Iterator[Dav]:
    pytest.importorskip("wsgidav")
    root, port = work / "root", unused_port()
    root.mkdir()
    config = work / "wsgidav.json"
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "provider_mapping": {"/": str(root)},
        "simple_dc": {"user_mapping": {"*": True}},
        "verbose": 1,
        "logging": {"enable": False},
    }
    config.write_text(json.dumps(settings))
    with _running([sys.executable, "-m", "wsgidav.server.server_cli", "--config", str(config)], port, work):
        yield Dav(f"http://127.0.0.1:{port}", root)


@contextmanager
def nginx_dav(work: Path) -> Iterator[Dav]:
    if not _NGINX_MODULE.exists():
        need("libnginx-mod-http-dav-ext")  # no program: says what is missing
    root = work / "root"
    root.mkdir()
    more = "dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; client_max_body_size 0;"
    with nginx(root, work / "nginx", more, modules=f"load_module {_NGINX_MODULE};") as url:
        yield Dav(url, root)


@contextmanager
def _running(command: list[str], port: int, work: Path) -> Iterator[None]:
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=work)
        try:
            wait_for_port(port, process)
            yield
        finally:
            process.terminate()
            process.wait()
