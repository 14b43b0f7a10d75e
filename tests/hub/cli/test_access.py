"""The running hub that a command's options mean: whose token lets it in, and how it ends when that goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer import Exit

from hub.cli.access import hub_client
from hub.cli.options import HubOptions
from hub.model.identity import Role
from hub.registry import FILE_NAME, open_token_file
from tests.hub.cli.peer import Answer, Server, respond


def test_a_hub_that_is_not_there_is_said_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1; one line on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Exit) as ended, hub_client("hub flow", HubOptions(url, "x")) as client:
            client.get("/api/v1/flow")
    assert ended.value.exit_code == 1
    assert f"hub flow: {url} does not answer (Connection refused)" in capsys.readouterr().err


def test_on_the_hubs_machine_the_data_directory_lets_in(serve: Callable[[Answer], Server], tmp_path: Path) -> None:
    """Without a token one is made, of the role that is needed, and revoked in the end."""
    with open_token_file(tmp_path / FILE_NAME):
        """A registry without tokens."""
    server = serve(respond(200, b"{}"))
    with hub_client("hub x", HubOptions(server.url, data=tmp_path), role=Role.OPERATOR) as client:
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
        hub_client("hub x", HubOptions("http://hub.example", data=tmp_path)),
    ):
        """Never reached."""
    assert ended.value.exit_code == 1
    assert "give one with HUB_TOKEN" in capsys.readouterr().err


def test_what_the_hub_does_not_understand_is_misuse(
    serve: Callable[[Answer], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as for options that are wrong."""
    server = serve(respond(422, b'{"detail": "from has to be before to"}'))
    with pytest.raises(Exit) as ended, hub_client("hub x", HubOptions(server.url, "x")) as client:
        client.get("/")
    assert (ended.value.exit_code, capsys.readouterr().err) == (2, "hub x: from has to be before to\n")
