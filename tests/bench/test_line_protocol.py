"""Lines of the benchmark: what is sent to the hub and to InfluxDB, and that a wrong answer is a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from bench.line_protocol import FIELDS, HOSTS, LINES, Target, first_lines, requests_of, send
from bench.measure import Failure
from formats.interpretation import Interpreter
from formats.line_block import LineBlockReader
from formats.line_protocol import LineProtocolReader
from formats.record import TextFrame
from formats.rules import Rules

NOW_NS = 1_800_000_000_000_000_000


def test_lines_are_read_in_blocks_after_the_first_ones() -> None:
    """Every line is valid, has a time of its own, and differs from those before."""
    interpreter = Interpreter(Rules(), UTC)
    first = [TextFrame(1, line) for line in first_lines().split(b"\n")]
    rows, refusals = interpreter.interpret(LineProtocolReader("ns").feed(first), NOW_NS)
    assert ({row.device for row in rows}, refusals) == ({f"host{n:03}" for n in range(HOSTS)}, [])
    lines = [line for body in requests_of(2) for line in body.split(b"\n")]
    blocks, others = LineBlockReader(interpreter).read(lines, 1, NOW_NS)
    assert (len(blocks), others) == (HOSTS, [])
    assert sum(block.readings for block in blocks) == 2 * LINES * FIELDS
    assert len({time_ns for block in blocks for time_ns in block.times or ()}) == 2 * LINES


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Run a server with one answer to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep the output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_answer_other_than_204_is_a_failure() -> None:
    """A request that was not stored would make the target look fast."""
    with answering(204) as url:
        send(Target(url, "t"), [b"m a=1"] * 3)
    with answering(400) as url, pytest.raises(Failure, match="answered 400"):
        send(Target(url, "t"), [b"m a=1"] * 3)
