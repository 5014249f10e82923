"""Documents: bounded, conditional, tried again, and never with a secret in an error."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError, UsageError
from adpm.net.client import Document
from adpm.net.credentials import Login, netrc_login
from tests.net.clients import hasty
from tests.net.serving import Request, cut, head, serve, unused_port


def read(answer: Callable[[Request], object], limit: int = 1000) -> Document:
    with serve(answer) as served:
        return hasty().document(served.url + "/index.json", limit=limit)


def refused(answer: Callable[[Request], object], limit: int = 1000) -> tuple[AdpmError, int]:
    """The error, and how many requests it took."""
    with serve(answer) as served, pytest.raises(AdpmError) as caught:
        hasty().document(served.url + "/index.json", limit=limit)
    return caught.value, len(served.requests)


def test_a_document_with_its_etag() -> None:
    assert read(lambda request: request.answer(200, b"{}", ETag='"1"')) == Document(b"{}", '"1"')


def test_what_has_not_changed_is_not_sent_again() -> None:
    def answer(request: Request) -> None:
        if request.headers["If-None-Match"] == '"1"':
            request.send(head(304, {"ETag": '"1"'}))
        else:
            request.answer(200, b"{}", ETag='"1"')

    with serve(answer) as served:
        reader = hasty()
        first = reader.document(served.url, limit=10)
        assert reader.document(served.url, limit=10, known=first) is first
        assert reader.document(served.url, limit=10, known=Document(b"old", '"0"')) == first


def test_one_connection_serves_many_requests() -> None:
    with serve(lambda request: request.answer(200, b"x" * 500)) as served:
        reader = hasty()
        for _ in range(5):
            reader.document(served.url, limit=500)
    assert len({request.connection.fileno() for request in served.requests}) == 1


@pytest.mark.parametrize("length", [True, False])
def test_a_document_at_its_limit_and_beyond(length: bool) -> None:
    def answer(request: Request) -> None:
        headers = {"Content-Length": "11"} if length else {"Connection": "close"}
        request.send(head(200, headers) + b"x" * 11)
        cut(request)

    assert read(answer, limit=11).data == b"x" * 11
    error, requests = refused(answer, limit=10)
    assert (error.code, requests) == ("response-too-large", 1)


def test_a_lie_about_the_length_is_refused_before_reading() -> None:
    error, _ = refused(lambda request: request.send(head(200, {"Content-Length": "9" * 30})))
    assert error.code == "response-too-large"


def test_gzip_is_unpacked() -> None:
    data = b"{}" * 400
    document = read(lambda request: request.answer(200, gzip.compress(data), Content_Encoding="gzip"))
    assert document.data == data


def test_a_gzip_bomb_is_refused() -> None:
    bomb = gzip.compress(bytes(100 << 20))  # 100 kB that would be 100 MB
    error, requests = refused(lambda request: request.answer(200, bomb, Content_Encoding="gzip"), limit=1 << 20)
    assert (error.code, requests) == ("response-too-large", 1)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"no gzip at all", "gzip"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "gzip"),
        (gzip.compress(b"x", mtime=0) + b"more", "gzip"),
        (zlib.compress(b"x"), "deflate"),
        (b"x", "br"),
    ],
)
def test_broken_encodings(body: bytes, encoding: str) -> None:
    error, _ = refused(lambda request: request.answer(200, body, Content_Encoding=encoding))
    assert error.code == "response-broken"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(status: int) -> None:
    def answer(request: Request) -> None:
        request.answer(*((status, b"later") if request.number < 2 else (200, b"{}")))

    assert read(answer).data == b"{}"


def test_a_server_that_stays_in_trouble() -> None:
    error, requests = refused(lambda request: request.answer(503))
    assert isinstance(error, NetworkError)
    assert (error.code, error.status, requests) == ("http-status", 503, 3)


@pytest.mark.parametrize("status", [206, 299, 304, 400, 405, 418, 451, 505])
def test_other_answers_are_not_asked_again(status: int) -> None:
    error, requests = refused(lambda request: request.answer(status))
    assert (error.code, error.status, requests) == ("http-status", status, 1)


@pytest.mark.parametrize(
    ("value", "requests"),
    [
        ("0", 3),
        ("nonsense", 3),
        ("-5", 3),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 3),
        ("3600", 1),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 1),
    ],
)
def test_retry_after_is_honoured_within_bounds(value: str, requests: int) -> None:
    assert refused(lambda request: request.answer(503, b"", Retry_After=value))[1] == requests


@pytest.mark.parametrize(("status", "code"), [(401, "login-needed"), (403, "access-denied")])
def test_who_is_not_let_in(status: int, code: str) -> None:
    error, requests = refused(lambda request: request.answer(status))
    assert isinstance(error, LoginNeededError)
    assert (error.code, requests) == (code, 1)
    assert "adpm login 127.0.0.1:" in str(error.hint)
    with serve(lambda request: request.answer(status)) as served, pytest.raises(LoginNeededError) as caught:
        hasty(lambda _: Login("me", "s3cret", "~/.netrc")).document(served.url, limit=10)
    assert "user 'me' (from ~/.netrc)" in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value.hint} {caught.value.values}"


@pytest.mark.parametrize("status", [404, 410])
def test_not_found(status: int) -> None:
    error, requests = refused(lambda request: request.answer(status))
    assert isinstance(error, NotFoundError)
    assert (error.code, requests) == ("url-not-found", 1)


def test_a_cut_is_tried_again() -> None:
    def answer(request: Request) -> None:
        if request.number == 0:
            cut(request)
        elif request.number == 1:
            request.send(head(200, {"Content-Length": "100"}) + b"x" * 10)
            cut(request)
        else:
            request.answer(200, b"{}")

    assert read(answer).data == b"{}"


def test_nobody_listens() -> None:
    with pytest.raises(NetworkError, match="takes no connection") as caught:
        hasty().document(f"http://127.0.0.1:{unused_port()}/", limit=10)
    assert caught.value.code == "network-failed"


def test_an_unknown_host() -> None:
    with pytest.raises(NetworkError) as caught:
        hasty().document("http://adpm-no-such-host.invalid/", limit=10)
    assert caught.value.code == "network-failed"


def test_a_silent_server() -> None:
    error, requests = refused(lambda request: request.wait(30))
    assert (error.code, requests) == ("network-failed", 3)


def drip(request: Request, data: bytes) -> None:
    """One byte every 50 ms: no read ever times out."""
    for byte in data:
        request.send(bytes([byte]))
        request.wait(0.05)
        if request.stopping.is_set():
            return


def test_a_body_that_drips() -> None:
    def answer(request: Request) -> None:
        request.send(head(200, {"Content-Length": "1000"}))
        drip(request, b"x" * 1000)

    error, requests = refused(answer)
    assert (error.code, requests) == ("network-failed", 3)


def test_headers_that_drip() -> None:
    error, requests = refused(lambda request: drip(request, head(200, {"X": "y" * 1000})))
    assert (error.code, requests) == ("network-failed", 3)


def test_headers_without_end() -> None:
    def answer(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\n")
        for i in range(200_000):
            request.send(b"X-%d: y\r\n" % i)

    error, _ = refused(answer)
    assert error.code == "network-failed"


def test_no_http_at_all() -> None:
    def answer(request: Request) -> None:
        request.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        cut(request)

    error, _ = refused(answer)
    assert error.code == "network-failed"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    def answer(request: Request) -> None:
        if request.path == "/there":
            request.answer(200, b"{}")
        else:
            request.answer(status, b"moved", Location="/there")

    assert read(answer).data == b"{}"


@pytest.mark.parametrize(
    "location",
    [
        "/index.json",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "",
        "http://a..b/",
        "http://[::1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http:///nowhere",
        "http://user:pw@127.0.0.1/",
    ],
)
def test_redirects_that_lead_nowhere(location: str) -> None:
    error, _ = refused(lambda request: request.answer(302, b"", Location=location))
    assert error.code == "redirect-refused"


def test_credentials_stay_with_their_origin() -> None:
    with serve(lambda request: request.answer(200, b"{}")) as other:

        def answer(request: Request) -> None:
            if request.path == "/moved":
                request.answer(200, b"{}")
            else:
                request.answer(302, Location=other.url if request.path == "/away" else "/moved")

        with serve(answer) as served:
            reader = hasty(lambda _: Login(None, "secret"))
            reader.document(served.url + "/here", limit=10)
            assert [request.headers["Authorization"] for request in served.requests] == ["Bearer secret"] * 2
            reader.document(served.url + "/away", limit=10)
    assert [request.headers["Authorization"] for request in other.requests] == [None]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_where_a_redirect_leads(status: int) -> None:
    with (
        serve(lambda request: request.answer(status)) as other,
        serve(lambda request: request.answer(302, Location=other.url + "/x?signature=s3cret")) as served,
        pytest.raises(LoginNeededError, match=r"where 127.0.0.1:\d+ redirects to") as caught,
    ):
        hasty(lambda _: Login("me", "s3cret")).document(served.url, limit=10)
    assert caught.value.code == "access-denied"
    assert other.url.removeprefix("http://") in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_no_secret_is_in_an_error() -> None:
    def answer(request: Request) -> None:
        if request.path == "/start":
            request.answer(302, b"", Location="/signed?signature=s3cret")
        else:
            request.answer(500)

    with serve(answer) as served, pytest.raises(NetworkError) as caught:
        hasty(lambda _: Login(None, "s3cret")).document(served.url + "/start?token=s3cret", limit=10)
    error = caught.value
    assert "s3cret" not in f"{error} {error.cause} {error.hint} {error.values}"


@pytest.mark.parametrize("url", ["http://me:s3cret@127.0.0.1/", "ftp://a/", "http://", "http://[", "http://a:x/"])
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        hasty().document(url, limit=10)
    assert caught.value.code == "url-invalid"
    assert "s3cret" not in f"{caught.value} {caught.value.cause}"


def test_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    assert netrc_login("example.org:443") is None
    path.write_text("machine example.org login me password s3cret\n")
    path.chmod(0o600)
    assert netrc_login("example.org:8443") == Login("me", "s3cret")
    assert netrc_login("example.com:443") is None
    for broken in ("machine", "machine example.org login me passwort s3cret"):
        path.write_text(broken)
        with pytest.raises(UsageError) as caught:
            netrc_login("example.org:443")
        assert caught.value.code == "netrc-invalid"
        assert "s3cret" not in f"{caught.value} {caught.value.hint}"
