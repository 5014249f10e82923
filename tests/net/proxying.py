"""A real proxy on loopback: tunnels by ``CONNECT``, plain requests passed on; with a password if one is given."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Proxying:
    address: str
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, target and headers of each request that came to the proxy itself."""


@contextmanager
def proxy(login: str | None = None, *, status: int = 200, tls: ssl.SSLContext | None = None) -> Iterator[Proxying]:
    """``login`` is ``USER:PASSWORD``. With another ``status`` it answers that to every tunnel; with ``tls`` it speaks
    TLS itself."""
    wanted = None if login is None else "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            if not self._let_in():
                return
            if status != 200:
                self.send_error(status)
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as far:
                self.send_response(200)
                self.end_headers()
                self._pump(far)
            self.close_connection = True

        def do_GET(self) -> None:
            if not self._let_in():
                return
            parts = urlsplit(self.path)
            connection = http.client.HTTPConnection(parts.netloc, timeout=10)
            connection.request("GET", parts.path, headers={"Accept": "*/*"})
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _let_in(self) -> bool:
            served.seen.append((self.command, self.path, dict(self.headers.items())))
            if wanted is None or self.headers["Proxy-Authorization"] == wanted:
                return True
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def _pump(self, far: socket.socket) -> None:
            ends = {self.connection: far, far: self.connection}
            while True:
                held = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
                for end in held or select.select(list(ends), [], [], 10)[0] or [None]:
                    data = b"" if end is None else end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        served = Proxying(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
