"""The check of agent.toml."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent.check import CheckReport, check_file
from device_agent.commands import app
from tests.device_agent.peer import Peer

NEEDED = "the hub needs one: set token_file, or HUB_TOKEN in the environment"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of the environment would win over the file."""
    monkeypatch.delenv("HUB_TOKEN", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def write(tmp_path: Path, url: str, settings: str = "", source: str = 'kind = "host"') -> Path:
    """Write a file of settings and a token, and return its path."""
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    file = tmp_path / "agent.toml"
    head = f'hub = "{url}"\ndevice = "kiln"\ntoken_file = "token"\nspool_directory = "spools"\n'
    file.write_text(f"{head}{settings}\n[[source]]\n{source}\n")
    return file


def found(report: CheckReport) -> list[str]:
    """Return the lines of a report, without the directory of the file."""
    return [line.removeprefix(f"{report.file.parent}/") for line in report.lines()]


async def test_a_hub_that_accepts_the_token_is_the_end_of_the_check(peer: Peer, tmp_path: Path) -> None:
    """The check opens a connection with the token, and says no hello: a running agent keeps its own."""
    report = await asyncio.to_thread(check_file, write(tmp_path, peer.url))
    assert found(report) == [f"ok: 1 source of 1 device, and {peer.url} accepts the agent"]
    assert (peer.headers[0]["Authorization"], peer.hellos, report.has_errors) == ("Bearer secret", [], False)
    assert not (tmp_path / "spools").exists()


async def test_a_token_that_the_hub_refuses_is_a_problem_of_its_key(peer: Peer, tmp_path: Path) -> None:
    """A hub that does not answer is one of `hub`."""
    peer.refusal = HTTPStatus.UNAUTHORIZED, {}
    report = await asyncio.to_thread(check_file, write(tmp_path, peer.url))
    assert found(report)[0].startswith("agent.toml:3: token_file: ")
    await peer.stop()
    report = await asyncio.to_thread(check_file, write(tmp_path, peer.url))
    assert found(report)[0].startswith("agent.toml:1: hub: ")
    assert "does not answer" in found(report)[0]


async def test_a_missing_token_is_one_problem(peer: Peer, tmp_path: Path) -> None:
    """The warning about it is left out when the hub refuses the agent for it."""
    file = write(tmp_path, peer.url)
    file.write_text(file.read_text().replace('token_file = "token"\n', ""))
    peer.refusal = HTTPStatus.UNAUTHORIZED, {}
    assert found(await asyncio.to_thread(check_file, file)) == [
        f"agent.toml: token_file: there is no token, and {NEEDED}",
        "1 problem; 1 source of 1 device",
    ]


def test_a_hub_that_cannot_be_asked_does_not_accept_the_agent(tmp_path: Path) -> None:
    """Without the file of the token there is no question to the hub, and the report says so."""
    file = write(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "token").unlink()
    assert found(check_file(file)) == [
        f"agent.toml:3: token_file: {tmp_path}/token: No such file or directory",
        "1 problem; 1 source of 1 device; the hub was not asked",
    ]


def test_every_problem_of_the_computer_is_found_at_once(tmp_path: Path) -> None:
    """Files, permissions, directories and ports, each at its key and line."""
    settings = "[tls]\nca = 'absent.pem'"
    file = write(tmp_path, "http://127.0.0.1:1", settings, f'kind = "serial"\nport = "{tmp_path}/absent"')
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "spools").write_text("a file")
    report = check_file(file, connect_hub=False)
    assert found(report) == [
        f"agent.toml:5: tls: tls.ca {tmp_path}/absent.pem: No such file or directory",
        f"agent.toml:4: spool_directory: {tmp_path}/spools cannot be written: readings could not be kept",
        f"agent.toml:9: source 1 (serial {tmp_path}/absent): port: the port does not exist; is the device plugged in?",
        (
            f"agent.toml:3: token_file: every user of this computer can read or change {tmp_path}/token: "
            f"run chmod 600 {tmp_path}/token (warning)"
        ),
        "3 problems; 1 source of 1 device",
    ]
    (tmp_path / "token").unlink()
    assert f"agent.toml:3: token_file: {tmp_path}/token: No such file or directory" in found(
        check_file(file, connect_hub=False)
    )


def test_an_agent_without_a_token_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have one as a service, from the environment or as a credential of systemd."""
    file = write(tmp_path, "http://127.0.0.1:1")
    file.write_text(file.read_text().replace('token_file = "token"\n', ""))
    assert "there is no token" in found(check_file(file, connect_hub=False))[0]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert found(check_file(file, connect_hub=False)) == ["ok: 1 source of 1 device"]


def test_the_command_has_an_exit_code_and_json(tmp_path: Path) -> None:
    """A warning is no failure; wrong settings are."""
    file = write(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "token").chmod(0o644)
    result = CliRunner().invoke(app, ["check", "--config", str(file), "--no-hub"])
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "ok: 1 source of 1 device")
    file.write_text(file.read_text().replace("device =", "devise ="))
    result = CliRunner().invoke(app, ["check", "--config", str(file), "--no-hub", "--json"])
    problem = {"key": "devise", "line": 2, "text": "there is no such setting; did you mean device?"}
    assert (result.exit_code, json.loads(result.stdout)["problems"]) == (1, [problem])
