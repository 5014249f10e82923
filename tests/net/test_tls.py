"""HTTPS: only to servers that the machine trusts, and never back to HTTP."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm.errors import NetworkError
from tests.net.clients import hasty
from tests.net.serving import Request, Served, serve
from tests.registry.servers import need


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that is its own CA, with its key."""
    need("openssl")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    paths = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*command.split(), *paths], check=True, capture_output=True)
    return tmp_path / "certificate"


@pytest.fixture
def site(certificate: Path) -> Iterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))

    def answer(request: Request) -> None:
        if request.path == "/down":
            request.answer(302, Location=served.url.replace("https", "http"))
        else:
            request.answer(200, b"{}")

    with serve(answer, wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as served:
        served.url = served.url.replace("http://127.0.0.1", "https://localhost")
        yield served


def test_an_own_ca(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert hasty().document(site.url, limit=10).data == b"{}"


def test_an_unknown_ca(site: Served) -> None:
    with pytest.raises(NetworkError, match="no secure connection") as caught:
        hasty().document(site.url, limit=10)
    assert caught.value.code == "network-failed"
    assert "SSL_CERT_FILE" in str(caught.value.hint)
    assert site.requests == []


def test_another_host(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(NetworkError, match="no secure connection"):
        hasty().document(site.url.replace("localhost", "127.0.0.1"), limit=10)


def test_no_way_back_to_http(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(NetworkError) as caught:
        hasty().document(site.url + "/down", limit=10)
    assert caught.value.code == "redirect-refused"


def test_http_where_https_was_asked_for() -> None:
    with serve(lambda request: request.answer(200)) as served, pytest.raises(NetworkError) as caught:
        hasty().document(served.url.replace("http", "https"), limit=10)
    assert caught.value.code == "network-failed"
