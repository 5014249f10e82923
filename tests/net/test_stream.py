"""Streams: resumed where they were cut, whatever the server makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from adpm.errors import AdpmError
from tests.net.clients import hasty
from tests.net.serving import Request, cut, head, serve
from tests.net.test_document import drip

DATA = hashlib.shake_256(b"adpm").digest(200_000)


def fetch(
    answer: Callable[[Request], object], *, size: int = len(DATA), offset: int = 0
) -> tuple[bytes, list[Request]]:
    with serve(answer) as served:
        chunks = hasty().stream(served.url + "/blob", size=size, offset=offset)
        return b"".join(chunks), served.requests


def refused(answer: Callable[[Request], object]) -> AdpmError:
    with pytest.raises(AdpmError) as caught:
        fetch(answer)
    return caught.value


def start_of(request: Request) -> int:
    """Where the request wants to start; 0 without a range."""
    wanted = request.headers["Range"]
    return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0


def partial(request: Request, *, until: int | None = None, etag: str = '"1"', data: bytes = DATA) -> None:
    """What a server with ranges and ETags answers, cut after ``until`` bytes of the body."""
    start = start_of(request)
    status, headers = 200, {"ETag": etag}
    if start and request.headers["If-Range"] in {None, etag}:
        status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
    else:
        start = 0
    request.send(head(status, {**headers, "Content-Length": str(len(data) - start)}))
    request.send(data[start : None if until is None else start + until])
    if until is not None:
        cut(request)


def test_a_whole_file() -> None:
    data, requests = fetch(partial)
    assert data == DATA
    assert len(requests) == 1
    assert requests[0].headers["Accept-Encoding"] == "identity"


def test_from_an_offset() -> None:
    data, requests = fetch(partial, offset=150_000)
    assert data == DATA[150_000:]
    assert requests[0].headers["Range"] == "bytes=150000-"


def test_nothing_to_read_is_not_asked_for() -> None:
    assert fetch(partial, size=0) == (b"", [])


def test_a_cut_is_resumed() -> None:
    data, requests = fetch(lambda request: partial(request, until=120_000 if request.number == 0 else None))
    assert data == DATA
    assert [request.headers["Range"] for request in requests] == [None, "bytes=120000-"]
    assert requests[1].headers["If-Range"] == '"1"'


def test_a_weak_etag_is_no_condition_for_a_range() -> None:
    data, requests = fetch(lambda request: partial(request, until=9 if request.number == 0 else None, etag='W/"1"'))
    assert data == DATA
    assert requests[1].headers["If-Range"] is None


def test_a_server_without_ranges_is_read_from_the_start_again() -> None:
    def answer(request: Request) -> None:
        request.send(head(200, {"Content-Length": str(len(DATA))}))
        request.send(DATA[: 120_000 if request.number == 0 else None])
        if request.number == 0:
            cut(request)

    assert fetch(answer)[0] == DATA


def test_an_etag_that_changes_midway_gives_what_the_server_has_now() -> None:
    """The server sends the new file whole; its first part is skipped, and the caller's digest sees the mixture."""
    other = bytes(len(DATA))

    def answer(request: Request) -> None:
        if request.number == 0:
            partial(request, until=1000)
        else:
            partial(request, etag='"2"', data=other)

    data, requests = fetch(answer)
    assert requests[1].headers["If-Range"] == '"1"'
    assert data == DATA[:1000] + other[1000:]


def test_without_a_length_a_cut_is_told_by_the_size() -> None:
    def answer(request: Request) -> None:
        if request.number == 0:
            request.send(head(200, {"Connection": "close"}) + DATA[:120_000])
            cut(request)
        else:
            partial(request)

    assert fetch(answer)[0] == DATA


@pytest.mark.parametrize("broken", [True, False])
def test_chunked(broken: bool) -> None:
    def answer(request: Request) -> None:
        if request.number:
            partial(request)
            return
        request.send(head(200, {"Transfer-Encoding": "chunked"}))
        for i in range(0, 100_000 if broken else len(DATA), 1000):
            request.send(b"3e8\r\n" + DATA[i : i + 1000] + b"\r\n")
        request.send(b"" if broken else b"0\r\n\r\n")
        if broken:
            cut(request)

    data, requests = fetch(answer)
    assert data == DATA
    assert len(requests) == 1 + broken


def test_too_little_is_left_to_the_digest() -> None:
    assert fetch(lambda request: request.answer(200, DATA[:10]))[0] == DATA[:10]


def test_errors_on_the_way_are_survived() -> None:
    script: Iterator[Callable[[Request], object]] = iter(
        [
            lambda request: request.answer(503, Retry_After="0"),
            cut,
            lambda request: partial(request, until=150_000),
            lambda request: drip(request, head(206, {"X": "y"})),
            partial,
        ]
    )

    def answer(request: Request) -> None:
        next(script)(request)

    with serve(answer) as served:
        data = b"".join(hasty().stream(served.url, size=len(DATA)))
    assert data == DATA


def test_a_server_that_cuts_for_ever_is_given_up() -> None:
    def answer(request: Request) -> None:
        partial(request, until=10)

    with serve(answer) as served, pytest.raises(AdpmError) as caught:
        b"".join(hasty().stream(served.url, size=len(DATA)))
    assert caught.value.code == "network-failed"
    assert len(served.requests) == 3


@pytest.mark.parametrize(
    "header", ["bytes 0-199999/200000", "bytes 5-10/*", "nonsense", "", "bytes 9999999999999999999-1/2"]
)
def test_another_range_than_asked_for(header: str) -> None:
    def answer(request: Request) -> None:
        if request.number == 0:
            partial(request, until=1000)
        else:
            request.answer(206, DATA, Content_Range=header)

    assert refused(answer).code == "response-broken"


def test_an_encoding_that_nobody_asked_for() -> None:
    assert refused(lambda request: request.answer(200, DATA, Content_Encoding="gzip")).code == "response-broken"


def test_an_abandoned_stream_does_not_poison_the_pool() -> None:
    with serve(partial) as served:
        client = hasty()
        stream = client.stream(served.url, size=len(DATA))
        next(stream)
        del stream
        assert b"".join(client.stream(served.url, size=len(DATA))) == DATA
