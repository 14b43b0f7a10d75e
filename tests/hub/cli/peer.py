"""An HTTP server whose answers a test defines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

Answer = Callable[[BaseHTTPRequestHandler], None]


class _Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: ClassVar[Answer]
    seen: ClassVar[list[tuple[str, str, str | None]]]

    def do_GET(self) -> None:
        self.seen.append((self.command, self.path, self.headers["Authorization"]))
        type(self).answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the access log."""


class PeerServer:
    """HTTP server whose answers a test defines."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        others = dict.fromkeys(("do_POST", "do_DELETE"), _Peer.do_GET)
        peer = type("Peer", (_Peer,), {"answer": staticmethod(answer), "seen": self.seen, **others})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), peer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def respond(status: int, body: bytes, length: int | None = None) -> Answer:
    def answer(peer: BaseHTTPRequestHandler) -> None:
        peer.send_response(status)
        peer.send_header("Content-Length", str(len(body) if length is None else length))
        peer.end_headers()
        peer.wfile.write(body)
        peer.close_connection = length is not None

    return answer
