"""Certificates for servers of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.registry.servers import need


def make_certificate(directory: Path, *, days: int = 2, name: str = "localhost") -> Path:
    """``directory/certificate``, which is its own CA, and ``directory/key``. With -1 days it has expired."""
    need("openssl")
    key, request, certificate = (str(directory / file) for file in ("key", "request", "certificate"))
    ask = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -addext"
    run([*ask.split(), f"subjectAltName=DNS:{name}", "-keyout", key, "-out", request])
    sign = f"openssl x509 -req -days {days} -copy_extensions copy"
    run([*sign.split(), "-in", request, "-signkey", key, "-out", certificate])
    return directory / "certificate"


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
