"""olah, a server of others that mirrors the Hub: read-only, over git repositories on disk.

It has a virtual environment of its own, for its pins are not those of adpm: ``$ADPM_OLAH`` names its ``olah-cli``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net.serving import unused_port
from tests.registry.hub.repositories import Repository

_CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
ssl-key = ""
ssl-cert = ""
repos-path = "{work}/repos"
hf-scheme = "http"
hf-netloc = "127.0.0.1:9"
hf-lfs-netloc = "127.0.0.1:9"
mirror-scheme = "http"
mirror-netloc = "127.0.0.1:{port}"
mirror-lfs-netloc = "127.0.0.1:{port}"
mirrors-path = ["{work}/mirrors"]
[accessibility]
offline = true
"""


def _program() -> str:
    program = os.environ.get("ADPM_OLAH") or shutil.which("olah-cli")
    if program is None:
        reason = "olah is not installed here: ADPM_OLAH names no olah-cli"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@contextmanager
def olah(repositories: Iterable[Repository], work: Path) -> Iterator[str]:
    """The endpoint of a mirror that has copies of ``repositories``."""
    program, port = _program(), unused_port()
    for repository in repositories:
        copy = work / "mirrors/models" / repository.id
        subprocess.run(["git", "clone", "-q", "--no-checkout", repository.directory, copy], check=True)
        for large in repository.directory.glob("lfs/*"):
            place = copy / ".git/lfs/objects" / large.name[:2] / large.name[2:4] / large.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(large, place)
    config = work / "olah.toml"
    config.write_text(_CONFIG.format(port=port, work=work), encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    with (work / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", config], cwd=work, stdout=log, stderr=log)
        try:
            _wait(url, process, work / "log")
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except urllib.error.URLError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"olah did not come up:\n{log.read_text(errors='replace')[-2000:]}")
