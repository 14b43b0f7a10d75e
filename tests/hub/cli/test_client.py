"""The HTTP client of the commands: requests, errors, and the token that a command uses."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from typer import Exit

from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import HubOptions
from hub.config.address import RunningHub, published_address
from hub.model.identity import Identity, Role
from hub.registry.database import FILE_NAME, open_database
from hub.registry.token import open_token_file
from tests.conditions import until
from tests.hub.cli.peer import Answer, PeerServer, respond
from wire.timestamp import NS_PER_S

LABEL = f"local command line ({pwd.getpwuid(os.getuid()).pw_name})"


def test_a_request_contains_query_token_and_base_path(
    serve: Callable[[Answer], PeerServer],
) -> None:
    """None omits a parameter, a sequence repeats it, and the answer is JSON."""
    server = serve(respond(200, b'{"a": [1]}'))
    with HubClient(server.url + "/plant/", "hub_viewer_x_y") as client:
        assert client.get("/api/v1/x", {"device": ["a b", "c"], "limit": 3, "before": None}) == {"a": [1]}
    assert server.seen == [("GET", "/plant/api/v1/x?device=a+b&device=c&limit=3", "Bearer hub_viewer_x_y")]


def test_an_error_contains_the_detail_of_the_hub(serve: Callable[[Answer], PeerServer]) -> None:
    """Without problem+json the error contains the status and a hint."""
    with HubClient(serve(respond(403, b'{"detail": "a token of role viewer may not"}')).url) as client:
        with pytest.raises(RequestFailed, match="a token of role viewer may not") as refused:
            client.send("POST", "/api/v1/x", body={"a": 1})
        assert refused.value.status == 403
    with (
        HubClient(serve(respond(404, b"<html>")).url) as client,
        pytest.raises(RequestFailed, match="to a hub"),
    ):
        client.get("/")
    with HubClient(serve(respond(200, b"<html>")).url) as client, pytest.raises(RequestFailed, match="to a hub"):
        client.get("/")


def test_a_command_finds_the_running_hub(serve: Callable[[Answer], PeerServer], tmp_path: Path) -> None:
    """Without an address it calls the hub that runs on the data directory, whatever the settings say."""
    server = serve(respond(200, b"1"))
    with (
        published_address(tmp_path, RunningHub(server.url, "https://hub.example")),
        hub_client("hub flow", HubOptions(token="hub_viewer_x_y", data=tmp_path)) as client,
    ):
        assert client.get("/api/v1/x") == 1
    with hub_client("hub flow", HubOptions(token="hub_viewer_x_y", data=tmp_path)) as client:
        assert client.url == "http://127.0.0.1:8600"


def test_a_closed_connection_is_reopened(serve: Callable[[Answer], PeerServer]) -> None:
    """A GET is repeated once; each change uses a new connection and is sent once."""

    def close_after(peer: BaseHTTPRequestHandler) -> None:
        respond(200, b"1")(peer)
        peer.close_connection = True  # without having said so

    server = serve(close_after)
    with HubClient(server.url) as client:
        answers = [client.get("/1"), client.get("/2"), client.send("DELETE", "/3"), client.send("DELETE", "/4")]
    assert answers == [1, 1, 1, 1]
    assert [path for _, path, _ in server.seen] == ["/1", "/2", "/3", "/4"]


def test_an_incomplete_answer_is_an_error(serve: Callable[[Answer], PeerServer]) -> None:
    """A stream that ends before its length raises, however it is read."""
    server = serve(respond(200, b'{"a": 1}', length=100))
    with HubClient(server.url) as client:
        with pytest.raises(RequestFailed, match="incomplete, 92 bytes are missing"):
            client.get("/")
        with client.stream("/") as body, pytest.raises(RequestFailed, match="incomplete"):
            list(body)


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("hub.example", None, "is not the URL of a hub"),
        ("ws://hub.example", None, "is not the URL of a hub"),
        ("http://me@hub.example", None, "has no user"),
        ("http://hub.example:port", None, "[Pp]ort"),
        ("http://hub.example", "a\nb", "a token contains"),
    ],
)
def test_an_invalid_url_or_token_is_rejected_before_a_request(url: str, token: str | None, says: str) -> None:
    """The error is a sentence, not a protocol error."""
    with pytest.raises(ValueError, match=says):
        HubClient(url, token)


def test_an_unreachable_hub_is_reported_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, with one line on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Exit) as ended, hub_client("hub flow", HubOptions(url, "x")) as client:
            client.get("/api/v1/flow")
    assert ended.value.exit_code == 1
    assert f"hub flow: {url} does not answer (Connection refused)" in capsys.readouterr().err


def test_an_unusable_authority_is_misuse_before_a_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing and an empty file of --ca end the command with 2 and the reason."""
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.touch()
    for file, says in ((missing, "No such file or directory"), (empty, "the file is empty")):
        options = HubOptions("https://hub.example", "x", ca=file)
        with pytest.raises(Exit) as ended, hub_client("hub flow", options):
            """Never reached."""
        assert (ended.value.exit_code, capsys.readouterr().err) == (2, f"hub flow: --ca {file}: {says}\n")


def test_a_temporary_token_is_used_on_the_machine_of_the_hub(
    serve: Callable[[Answer], PeerServer], tmp_path: Path
) -> None:
    """Without a token one of the needed role is created, and revoked at the end."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    server = serve(respond(200, b"{}"))
    with hub_client("hub x", HubOptions(server.url, data=tmp_path), role=Role.OPERATOR) as client:
        client.get("/")
        with open_token_file(tmp_path / FILE_NAME) as tokens:
            assert [(held.role, held.label) for held in tokens.tokens()] == [(Role.OPERATOR, LABEL)]
            (held,) = tokens.tokens()
            assert Identity(held.id, held.role, label=held.label).operator == LABEL
            assert held.expires_ns is not None
            assert held.expires_ns <= held.created_ns + 3600 * NS_PER_S
    assert (server.seen[0][2] or "").startswith("Bearer hub_operator_")
    with open_token_file(tmp_path / FILE_NAME) as tokens:
        assert tokens.tokens() == []


@pytest.mark.parametrize(("role", "events"), [(Role.VIEWER, 0), (Role.OPERATOR, 2)])
def test_commands_that_only_read_leave_no_events(
    serve: Callable[[Answer], PeerServer], tmp_path: Path, role: Role, events: int
) -> None:
    """A command that is run every minute would hide all other events of the hub."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    with hub_client("hub x", HubOptions(serve(respond(200, b"{}")).url, data=tmp_path), role=role) as client:
        client.get("/")
    with closing(open_database(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM events").get == events


async def test_a_command_that_runs_for_long_extends_its_token(
    serve: Callable[[Answer], PeerServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of a command that was killed expires soon, and one that runs needs a longer time."""
    monkeypatch.setattr("hub.cli.client.RENEWAL_S", 0.01)
    with open_token_file(tmp_path / FILE_NAME) as tokens:
        with hub_client("hub x", HubOptions(serve(respond(200, b"{}")).url, data=tmp_path)):
            (before,) = tokens.tokens()
            await until(lambda: (tokens.tokens()[0].expires_ns or 0) > (before.expires_ns or 0))
        assert tokens.tokens() == []


def test_only_the_command_line_acts_under_the_name_of_a_user() -> None:
    """A token with such a label does not."""
    assert Identity("a" * 16, Role.ADMIN, label=LABEL).operator == f"admin {'a' * 16}"


def test_no_token_is_created_for_a_remote_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token of the local data directory is never sent to another machine."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    with (
        pytest.raises(Exit) as ended,
        hub_client("hub x", HubOptions("http://hub.example", data=tmp_path)),
    ):
        """Never reached."""
    assert ended.value.exit_code == 1
    assert "set HUB_TOKEN to a token" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "says"), [(401, "is another hub"), (None, "does not answer"), (500, None)])
def test_a_stopped_hub_is_named_when_another_address_was_asked(
    serve: Callable[[Answer], PeerServer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    says: str | None,
) -> None:
    """Without --url the address is that of the settings, where another hub may listen."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        if status is not None:
            port = serve(respond(status, b'{"detail": "sign in"}')).url.rpartition(":")[2].strip("/")
        monkeypatch.setenv("HUB_LISTEN", f"127.0.0.1:{port}")
        with pytest.raises(Exit), hub_client("hub x", HubOptions(data=tmp_path)) as client:
            client.get("/")
    said = capsys.readouterr().err
    assert (f"no hub runs on {tmp_path}, and http://127.0.0.1:{port}" in said) is (says is not None)
    assert (says or "sign in") in said


def test_a_request_that_the_hub_does_not_understand_is_misuse(
    serve: Callable[[Answer], PeerServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, as for invalid options."""
    server = serve(respond(422, b'{"detail": "from has to be before to"}'))
    with pytest.raises(Exit) as ended, hub_client("hub x", HubOptions(server.url, "x")) as client:
        client.get("/")
    assert (ended.value.exit_code, capsys.readouterr().err) == (2, "hub x: from has to be before to\n")
