"""HTTPS: only to servers that the machine trusts, and never back to HTTP."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm.errors import NetworkError, UsageError
from tests.net.certificates import make_certificate, run
from tests.net.clients import hasty
from tests.net.serving import Request, Served, serve


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that is its own CA, with its key."""
    return make_certificate(tmp_path)


@pytest.fixture
def site(certificate: Path) -> Iterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))

    def answer(request: Request) -> None:
        if request.path.startswith("/down-"):
            scheme = request.path.removeprefix("/down-")
            request.answer(302, Location=served.url.replace("https", scheme))
        else:
            request.answer(200, b"{}")

    with serve(answer, wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as served:
        served.url = served.url.replace("http://127.0.0.1", "https://localhost")
        yield served


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_own_ca(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, str(certificate))
    assert hasty().document(site.url, limit=10).data == b"{}"


def test_the_first_variable_counts(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert hasty().document(site.url, limit=10).data == b"{}"


def test_a_directory_of_cas(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / "cas"
    directory.mkdir()
    shutil.copy(certificate, directory / "ca.pem")
    run(["openssl", "rehash", str(directory)])
    for variable in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(directory))
            assert hasty().document(site.url, limit=10).data == b"{}"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("path", ["missing", "key", "empty"])
def test_variables_that_name_no_certificates(
    site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str, path: str
) -> None:
    (certificate.parent / "empty").touch()
    monkeypatch.setenv(variable, str(certificate.parent / path))
    with pytest.raises(UsageError) as caught:
        hasty().document(site.url, limit=10)
    assert caught.value.code == "certificates-invalid"
    assert f"${variable}" in str(caught.value)


def test_an_unknown_ca(site: Served) -> None:
    with pytest.raises(NetworkError, match="nobody whom this machine trusts") as caught:
        hasty().document(site.url, limit=10)
    assert caught.value.code == "certificate-invalid"
    assert "SSL_CERT_FILE" in str(caught.value.hint)
    assert site.requests == []


def test_another_host(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(NetworkError, match="is for other names"):
        hasty().document(site.url.replace("localhost", "127.0.0.1"), limit=10)


class TestExpired:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        return make_certificate(tmp_path, days=-1)

    def test_it_is_said(self, site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(NetworkError, match="has expired") as caught:
            hasty().document(site.url, limit=10)
        assert "clock" in str(caught.value.hint)


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_no_way_back_to_http(site: Served, certificate: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(NetworkError) as caught:
        hasty().document(f"{site.url}/down-{scheme}", limit=10)
    assert caught.value.code == "redirect-refused"


def test_http_where_https_was_asked_for() -> None:
    with serve(lambda request: request.answer(200)) as served, pytest.raises(NetworkError) as caught:
        hasty().document(served.url.replace("http", "https"), limit=10)
    assert caught.value.code == "network-failed"
    assert "does not speak TLS" in str(caught.value)
