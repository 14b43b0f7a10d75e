"""The commands' way to a running hub: what they ask, what they get, and what they say when it goes wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer import Exit

from hub.commands.client import HubClient, RequestFailed, hub_client
from hub.contract.identity import Role
from hub.registry import FILE_NAME, open_token_file

Answer = Callable[[BaseHTTPRequestHandler], None]


class _Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: ClassVar[Answer]
    seen: ClassVar[list[tuple[str, str, str | None]]]

    def do_GET(self) -> None:
        self.seen.append((self.command, self.path, self.headers["Authorization"]))
        type(self).answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Server:
    """An HTTP server that answers as a test wants it to."""

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


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def respond(status: int, body: bytes, length: int | None = None) -> Answer:
    def answer(peer: BaseHTTPRequestHandler) -> None:
        peer.send_response(status)
        peer.send_header("Content-Length", str(len(body) if length is None else length))
        peer.end_headers()
        peer.wfile.write(body)
        peer.close_connection = length is not None

    return answer


def test_a_request_has_its_query_its_token_and_the_path_the_hub_is_mounted_under(
    serve: Callable[[Answer], Server],
) -> None:
    """None leaves a parameter out, a sequence repeats it, and the answer is JSON."""
    server = serve(respond(200, b'{"a": [1]}'))
    with HubClient(server.url + "/plant/", "hub_viewer_x_y") as client:
        assert client.get("/api/v1/x", {"device": ["a b", "c"], "limit": 3, "before": None}) == {"a": [1]}
    assert server.seen == [("GET", "/plant/api/v1/x?device=a+b&device=c&limit=3", "Bearer hub_viewer_x_y")]


def test_a_refusal_is_told_in_the_hubs_own_words(serve: Callable[[Answer], Server]) -> None:
    """The detail of problem+json; of anything else the status, and a guess at what is wrong."""
    with HubClient(serve(respond(403, b'{"detail": "a token of role viewer may not"}')).url) as client:
        with pytest.raises(RequestFailed, match="a token of role viewer may not") as refused:
            client.send("POST", "/api/v1/x", body={"a": 1})
        assert refused.value.status == 403
    with (
        HubClient(serve(respond(404, b"<html>")).url) as client,
        pytest.raises(RequestFailed, match="is it a hub"),
    ):
        client.get("/")
    with HubClient(serve(respond(200, b"<html>")).url) as client, pytest.raises(RequestFailed, match="is it a hub"):
        client.get("/")


def test_a_connection_that_the_hub_closed_meanwhile_is_opened_again(serve: Callable[[Answer], Server]) -> None:
    """A GET is asked once more; each change has a connection of its own and is sent once."""

    def close_after(peer: BaseHTTPRequestHandler) -> None:
        respond(200, b"1")(peer)
        peer.close_connection = True  # without having said so

    server = serve(close_after)
    with HubClient(server.url) as client:
        answers = [client.get("/1"), client.get("/2"), client.send("DELETE", "/3"), client.send("DELETE", "/4")]
    assert answers == [1, 1, 1, 1]
    assert [path for _, path, _ in server.seen] == ["/1", "/2", "/3", "/4"]


def test_an_answer_that_breaks_off_is_no_answer(serve: Callable[[Answer], Server]) -> None:
    """A stream that ends before its length is an error, however it is read."""
    server = serve(respond(200, b'{"a": 1}', length=100))
    with HubClient(server.url) as client:
        with pytest.raises(RequestFailed, match="broke off, 92 bytes early"):
            client.get("/")
        with client.stream("/") as body, pytest.raises(RequestFailed, match="broke off"):
            list(body)


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("hub.example", None, "is not the URL of a hub"),
        ("ws://hub.example", None, "is not the URL of a hub"),
        ("http://me@hub.example", None, "has no user"),
        ("http://hub.example:port", None, "[Pp]ort"),
        ("http://hub.example", "a\nb", "a token has"),
    ],
)
def test_what_is_no_url_and_no_token_is_found_before_anything_is_sent(url: str, token: str | None, says: str) -> None:
    """A sentence, not a protocol error."""
    with pytest.raises(ValueError, match=says):
        HubClient(url, token)


def test_a_hub_that_is_not_there_is_said_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1; one line on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Exit) as ended, hub_client("hub flow", url=url, token="x") as client:
            client.get("/api/v1/flow")
    assert ended.value.exit_code == 1
    assert f"hub flow: {url} does not answer (Connection refused)" in capsys.readouterr().err


def test_on_the_hubs_machine_the_data_directory_lets_in(serve: Callable[[Answer], Server], tmp_path: Path) -> None:
    """Without a token one is made, of the role that is needed, and revoked in the end."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    server = serve(respond(200, b"{}"))
    with hub_client("hub x", url=server.url, token=None, data=tmp_path, role=Role.OPERATOR) as client:
        client.get("/")
        with open_token_file(tmp_path / FILE_NAME) as tokens:
            assert [(held.role, held.label) for held in tokens.tokens()] == [(Role.OPERATOR, "hub x")]
    assert (server.seen[0][2] or "").startswith("Bearer hub_operator_")
    with open_token_file(tmp_path / FILE_NAME) as tokens:
        assert tokens.tokens() == []


def test_no_token_is_made_for_a_hub_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the data directory would let in here is told to nobody else."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    with (
        pytest.raises(Exit) as ended,
        hub_client("hub x", url="http://hub.example", token=None, data=tmp_path),
    ):
        """Never reached."""
    assert ended.value.exit_code == 1
    assert "give one with HUB_TOKEN" in capsys.readouterr().err


def test_what_the_hub_does_not_understand_is_misuse(
    serve: Callable[[Answer], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as for options that are wrong."""
    server = serve(respond(422, b'{"detail": "from has to be before to"}'))
    with pytest.raises(Exit) as ended, hub_client("hub x", url=server.url, token="x") as client:
        client.get("/")
    assert (ended.value.exit_code, capsys.readouterr().err) == (2, "hub x: from has to be before to\n")
