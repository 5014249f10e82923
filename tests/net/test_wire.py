"""The head of an answer in every form that servers send, and requests that can't be bent."""

from __future__ import annotations

import pytest

from adpm.errors import AdpmError, NetworkError
from tests.net.clients import hasty
from tests.net.serving import Request, serve


def fetched(head: bytes, body: bytes = b"content") -> tuple[bytes, str | None]:
    """What a client makes of an answer with this head: the document and its ETag."""
    with serve(lambda request: request.send(head + body)) as server:
        document = hasty().document(server.url + "/x", limit=100)
    return document.data, document.etag


@pytest.mark.parametrize(
    "head",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "1"\r\n\r\n',
        b'HTTP/1.1 200\r\ncontent-length:7\r\netag:"1"\r\n\r\n',
        b'HTTP/1.1 200 OK\nContent-Length: 7\nETag: "1"\n\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag:\r\n  "1"\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\nETag: "1"\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\nETag: "1"\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 7\r\n: nothing\r\nETag: "1"\r\n\r\n',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "1"\r\n\r\n',
        b'HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "1"\r\n\r\n',
    ],
)
def test_heads_that_are_understood(head: bytes) -> None:
    assert fetched(head) == (b"content", '"1"')


def test_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert fetched(head, b"3\r\ncon\r\n4;x=y\r\ntent\r\n0\r\n\r\n")[0] == b"content"


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
    ],
)
def test_heads_that_are_none(head: bytes) -> None:
    with pytest.raises(NetworkError):
        fetched(head)


def test_what_is_sent() -> None:
    seen = []

    def answer(request: Request) -> None:
        seen.append((request.method, request.path, dict(request.headers), request.body))
        request.answer(200)

    with serve(answer) as server:
        client = hasty()
        client.exchange("PUT", server.url + "/a%20b?c", good={200}, headers={"X-Y": "ü"}, body=b"body" * 50_000)
        client.exchange("POST", server.url + "/", good={200}, body=b"")
        client.exchange("HEAD", server.url, good={200})
        host = server.url.removeprefix("http://")
    (put, path, headers, body), (_, _, posted, _), (head, top, _, _) = seen
    assert (put, path, body) == ("PUT", "/a%20b?c", b"body" * 50_000)
    assert (headers["Host"], headers["Content-Length"], headers["X-Y"]) == (host, "200000", "ü")
    assert headers["User-Agent"].startswith("adpm/")
    assert posted["Content-Length"] == "0"
    assert (head, top) == ("HEAD", "/")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_a_header_never_becomes_two(value: str) -> None:
    with serve(lambda request: request.answer(200)) as server:
        with pytest.raises(AdpmError):
            hasty().exchange("GET", server.url, good={200}, headers={"X-Name": value})
        assert server.requests == []
