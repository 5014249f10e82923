"""Connections: used again, by one at a time, and never for what an earlier answer left in them."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from adpm.errors import UsageError
from tests.net.clients import hasty
from tests.net.serving import Request, cut, serve


def test_one_connection_serves_one_request_after_the_other() -> None:
    def answer(request: Request) -> None:
        if request.method == "HEAD":
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        elif request.path == "/nothing":
            request.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif request.path == "/chunks":
            request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        else:
            request.answer(200, b"x")

    with serve(answer) as served:
        client = hasty()
        assert client.exchange("HEAD", served.url + "/x", good={200}).data == b""
        assert client.exchange("GET", served.url + "/nothing", good={204}).data == b""
        assert client.document(served.url + "/chunks", limit=10).data == b"x"
        assert client.exchange("PUT", served.url + "/x", good={200}, body=b"y" * 100_000).data == b"x"
        assert b"".join(client.stream(served.url + "/x", size=1)) == b"x"
        client.close()
        assert client.document(served.url + "/x", limit=10).data == b"x"
    assert _connections(served.requests) == [5, 1]


def test_what_was_not_read_is_not_taken_for_the_next_answer() -> None:
    with serve(lambda request: request.answer(200 if request.path == "/x" else 418, b"HTTP/1.1 200 OK")) as served:
        client = hasty()
        assert client.exchange("GET", served.url + "/refused", good={418}, limit=100).status == 418
        with pytest.raises(Exception, match="418"):
            client.document(served.url + "/refused", limit=100)
        assert client.document(served.url + "/x", limit=100).data == b"HTTP/1.1 200 OK"
    assert _connections(served.requests) == [2, 1]


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    closed = threading.Semaphore(0)

    def answer(request: Request) -> None:
        request.answer(200, b"x")
        cut(request)
        closed.release()

    with serve(answer) as served:
        client = hasty()
        for _ in range(3):
            assert client.exchange("POST", served.url, good={200}, again=False).data == b"x"
            assert closed.acquire(timeout=5)


def test_a_server_that_says_that_it_will_close_is_believed() -> None:
    with serve(lambda request: request.answer(200, b"x", Connection="close")) as served:
        client = hasty()
        for _ in range(2):
            assert client.document(served.url, limit=10).data == b"x"
    assert _connections(served.requests) == [1, 1]


def test_threads_never_meet_on_a_connection() -> None:
    with serve(lambda request: request.answer(200, request.path.encode() * 1000)) as served:
        client = hasty()

        def fetched(number: int) -> bool:
            path = f"/{number:04d}"
            return b"".join(client.stream(served.url + path, size=5000)) == path.encode() * 1000

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(fetched, range(400)))
    assert len(_connections(served.requests)) <= 16


def _connections(requests: list[Request]) -> list[int]:
    """How many requests came over each connection, in the order in which they were made."""
    counts: dict[int, int] = {}
    for request in requests:
        counts[id(request.connection)] = counts.get(id(request.connection), 0) + 1
    return list(counts.values())


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("", "/"),
        ("?q=a/b", "/?q=a/b"),
        ("/a b/\u00fc?x=%20 #part", "/a%20b/%C3%BC?x=%20%20"),
        ("/%7Bx%7D/a+b;c=d", "/%7Bx%7D/a+b;c=d"),
    ],
)
def test_what_is_asked_for(written: str, asked: str) -> None:
    with serve(lambda request: request.answer(200, b"x")) as served:
        hasty().document(served.url + written, limit=10)
    assert [request.path for request in served.requests] == [asked]


def test_a_redirect_to_what_a_request_can_not_hold() -> None:
    def answer(request: Request) -> None:
        if request.path == "/x":
            request.send("HTTP/1.1 302 Found\r\nLocation: /a b\u00fc\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
        else:
            request.answer(200, b"x")

    with serve(answer) as served:
        assert hasty().document(served.url + "/x", limit=10).data == b"x"
    assert [request.path for request in served.requests] == ["/x", "/a%20b%C3%BC"]


def test_names_of_hosts_in_other_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **keywords: Any) -> Any:
        looked_up.append(host)
        return real("127.0.0.1", *args, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with serve(lambda request: request.answer(200, b"x")) as served:
        url = served.url.replace("127.0.0.1", "b\u00fccher.example")
        assert hasty().document(url, limit=10).data == b"x"
        assert served.requests[0].headers["Host"] == url.split("/")[2].encode("idna").decode()
    assert looked_up == ["xn--bcher-kva.example"]
    with pytest.raises(UsageError, match="not a URL"):
        hasty().document(f"http://{'b' * 64}\u00fc.example/", limit=10)


def test_an_address_of_the_sixth_version() -> None:
    with socket.socket(socket.AF_INET6) as there:
        try:
            there.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on loopback here")
        there.listen()
        there.settimeout(5)
        with ThreadPoolExecutor(1) as threads:

            def once() -> bytes:
                near, _ = there.accept()
                with near:
                    asked = near.recv(4096)
                    near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
                return asked

            asked = threads.submit(once)
            port = there.getsockname()[1]
            assert hasty().document(f"http://[::1]:{port}/x", limit=10).data == b"x"
            assert f"\r\nHost: [::1]:{port}\r\n".encode() in asked.result()
