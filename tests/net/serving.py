"""A real HTTP server of which a test writes every byte: it answers well, badly, slowly, half, or not at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """One request as it came in; ``number`` counts all of this server from 0."""

    number: int
    method: str
    path: str
    headers: Message
    connection: socket.socket
    stopping: threading.Event
    body: bytes = b""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """A proper answer with a length; ``_`` in names of headers stands for ``-``."""
        self.send(head(status, {"Content-Length": str(len(body)), **headers}) + body)

    def wait(self, seconds: float) -> None:
        """Be silent, but not beyond the end of the test."""
        self.stopping.wait(seconds)


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode("latin-1")


@dataclass
class Served:
    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serve(
    answer: Callable[[Request], object], wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain
) -> Iterator[Served]:
    """Serve on loopback; ``answer`` writes each answer. The connection stays open unless it closes it.

    ``wrap`` may put TLS around the listening socket.
    """
    stopping, lock = threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                request = Request(
                    len(served.requests), self.command, self.path, self.headers, self.connection, stopping, body
                )
                served.requests.append(request)
            try:
                answer(request)
            except OSError:
                self.close_connection = True
            if request.connection.fileno() < 0:
                self.close_connection = True

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - the names that the library calls

        do_MKCOL = do_MOVE = do_PROPFIND = do_GET  # noqa: N815

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                return  # the client, or the test, closed the connection

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = wrap(server.socket)
        served = Served(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


def cut(request: Request) -> None:
    """Close the connection so that the client sees it at once."""
    request.connection.shutdown(socket.SHUT_RDWR)
    request.connection.close()


def unused_port() -> int:
    """A port on loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
