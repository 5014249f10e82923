"""Proxies: tunnels and plain requests, with passwords that stay between adpm and the proxy."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from adpm.errors import NetworkError, UsageError
from adpm.net.credentials import Login
from tests.net.certificates import make_certificate
from tests.net.clients import hasty
from tests.net.proxying import proxy
from tests.net.serving import Served, serve, unused_port
from tests.registry.servers import nginx

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def plain() -> Iterator[Served]:
    with serve(lambda request: request.answer(200, b"{}")) as served:
        yield served


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """nginx with TLS and a CA of its own."""
    certificate = make_certificate(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "index.json").write_text("{}")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {tmp_path / 'key'};"
    with nginx(tmp_path / "root", tmp_path / "nginx", tls, tls=True) as url:
        yield url + "/index.json"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_tunnel(secure: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with proxy("us er:p@ss:word") as served:
        monkeypatch.setenv(variable, f"http://us%20er:p%40ss%3Aword@{served.address}")
        client = hasty(lambda _: Login("me", "s3cret"))
        for _ in range(2):
            assert client.document(secure, limit=1000).data == b"{}"
        b"".join(client.stream(secure, size=2))
        client.close()
    ((method, target, headers),) = served.seen
    assert (method, target) == ("CONNECT", secure.split("/")[2])
    assert "Authorization" not in headers


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_plain_request(plain: Served, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with proxy("user:s3cret") as served:
        monkeypatch.setenv(variable, f"user:s3cret@{served.address}")
        assert hasty().document(plain.url + "/x", limit=10).data == b"{}"
    assert [seen[:2] for seen in served.seen] == [("GET", plain.url + "/x")]


def test_a_name_without_a_port_stays_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(lambda request: request.answer(200, b"{}")) as served:
        monkeypatch.setenv("HTTP_PROXY", served.url)
        for url in ("http://example.org/x", "http://example.org:80/x", "http://[::1]:8080/x"):
            assert hasty().document(url, limit=10).data == b"{}"
    assert [(request.path, request.headers["Host"]) for request in served.requests] == [
        ("http://example.org/x", "example.org"),
        ("http://example.org/x", "example.org"),
        ("http://[::1]:8080/x", "[::1]:8080"),
    ]


def test_a_proxy_that_is_spoken_to_over_tls(
    plain: Served, secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with proxy("user:s3cret", tls=context) as served:
        monkeypatch.setenv("ALL_PROXY", f"https://user:s3cret@{served.address.replace('127.0.0.1', 'localhost')}")
        client = hasty()
        assert client.document(plain.url + "/x", limit=10).data == b"{}"
        for _ in range(2):  # TLS within TLS
            assert client.document(secure, limit=1000).data == b"{}"
        client.close()
        monkeypatch.setenv("ALL_PROXY", f"https://user:wrong@{served.address.replace('127.0.0.1', 'localhost')}")
        with pytest.raises(NetworkError, match="does not accept the login"):
            hasty().document(secure, limit=1000)
    assert [seen[0] for seen in served.seen] == ["GET", "CONNECT", "CONNECT"]


@pytest.mark.parametrize("value", ["*", "localhost,127.0.0.1", "HOST"])
def test_no_proxy(plain: Served, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("NO_PROXY", value.replace("HOST", plain.url.removeprefix("http://")))
    assert hasty().document(plain.url, limit=10).data == b"{}"


@pytest.mark.parametrize("login", ["", "user:wr0ng@"])
def test_a_proxy_that_wants_a_login(plain: Served, secure: str, monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    with proxy("user:s3cret") as served:
        monkeypatch.setenv("ALL_PROXY", f"http://{login}{served.address}")
        for url in (plain.url, secure):
            with pytest.raises(NetworkError, match="does not accept the login" if login else "wants a login") as caught:
                hasty().document(url, limit=10)
            error = caught.value
            assert error.code == "proxy-failed"
            assert "$ALL_PROXY" in str(error.hint)
            assert served.address in str(error)
            assert "wr0ng" not in f"{error} {error.hint} {error.values}"


def test_a_proxy_that_is_not_there(plain: Served, secure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_port()}")
    for url in (plain.url, secure):
        with pytest.raises(NetworkError, match="can't be reached") as caught:
            hasty().document(url, limit=10)
        assert caught.value.code == "proxy-failed"


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (503, 3)])
def test_a_proxy_that_does_not_lead_there(
    secure: str, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
) -> None:
    with proxy(status=status) as served:
        monkeypatch.setenv("ALL_PROXY", f"http://{served.address}")
        with pytest.raises(NetworkError, match=f"does not lead to localhost.*HTTP {status}"):
            hasty().document(secure, limit=10)
    assert len(served.seen) == tries


@pytest.mark.parametrize("value", ["socks5://me:s3cret@localhost:1080", "http://", "http://[", "http://a:x"])
def test_proxies_that_are_none(plain: Served, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(UsageError) as caught:
        hasty().document(plain.url, limit=10)
    assert caught.value.code == "proxy-invalid"
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
