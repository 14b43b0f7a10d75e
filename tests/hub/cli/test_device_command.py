"""`hub command` with a running hub and a device that answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler

import msgspec
import pytest
from typer.testing import CliRunner

from hub.cli import device_command
from hub.cli.application import app
from tests.conditions import until
from tests.hub.cli.hub_command import CommandedHub, commanded_hub
from tests.hub.cli.peer import Answer, PeerServer, respond
from tests.hub.http.command_agent import command_agent, state
from tests.tasks import running_task
from wire import device as messages
from wire.command import CommandId


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub that knows the device, which is not connected."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running, running_task(running.services.commands.run()):
        async with command_agent(running.url, running.gateway):
            pass
        await until(lambda: not is_connected(running))
        yield running


def is_connected(hub: CommandedHub) -> bool:
    device = hub.services.devices.get("pump")
    return device is not None and device.session is not None


async def test_send_waits_for_the_result_and_shows_the_states(hub: CommandedHub) -> None:
    """States on stderr, the result on stdout; JSON for programs."""
    async with command_agent(hub.url, hub.gateway):
        done = await hub.run("command", "send", "pump", "set_speed", "speed=12.5", "mode=7")
        assert (done.exit_code, done.stdout) == (0, 'succeeded: {"speed": 12.5, "mode": "7"}\n')
        assert done.stderr.splitlines()[0] == "queued"
        shown = json.loads((await hub.run("command", "send", "pump", "stop", "--json")).stdout)
        assert (shown["name"], shown["state"]) == ("stop", "succeeded")
        confirmed = await hub.run("command", "send", "pump", "erase")
        assert (confirmed.exit_code, "add --yes" in confirmed.stderr) == (2, True)
        assert (await hub.run("command", "send", "pump", "erase", "--yes")).exit_code == 0
    await until(lambda: not is_connected(hub))


async def test_the_progress_says_shortly_that_a_command_is_in_memory(hub: CommandedHub) -> None:
    """It is the normal state of a device without a disk; `show` has the whole sentence."""

    def execute(command: messages.Command) -> list[messages.CommandState]:
        received = state(command, "received", code="not_durable", message="if the agent restarts, it is lost")
        return [received, state(command, "succeeded")]

    async with command_agent(hub.url, hub.gateway, execute=execute):
        done = await hub.run("command", "send", "pump", "stop")
        assert (done.exit_code, done.stdout) == (0, "succeeded\n")
        assert done.stderr.splitlines()[-1] == "received: kept in memory"
    await until(lambda: not is_connected(hub))


async def test_the_exit_code_says_how_it_ended(hub: CommandedHub) -> None:
    """1: it did not happen or failed, 3: nobody knows."""

    def execute(command: messages.Command) -> list[messages.CommandState]:
        if command.name == "stop":
            return []
        return [state(command, "rejected", code="busy", message="the pump is busy")]

    async with command_agent(hub.url, hub.gateway, execute=execute):
        rejected = await hub.run("command", "send", "pump", "set_speed", "speed=1")
        assert (rejected.exit_code, rejected.stdout) == (1, "rejected: the pump is busy\n")
        silent = await hub.run("command", "send", "pump", "stop", "--timeout", "0.3")
        assert (silent.exit_code, silent.stdout[:9]) == (3, "timed out")
    await until(lambda: not is_connected(hub))
    offline = await hub.run("command", "send", "pump", "stop")
    assert (offline.exit_code, "add --queue to let it wait" in offline.stderr) == (1, True)


async def test_a_wrong_command_shows_those_that_there_are(hub: CommandedHub) -> None:
    """Exit code 2, like wrong parameters."""
    listed = await hub.run("command", "send", "pump")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["command", "stop", "set_speed", "erase"]
    assert "Stand still." in listed.stdout.splitlines()[1]
    assert "mode=1" in listed.stdout.splitlines()[2]
    assert listed.stdout.splitlines()[3].split()[-1] == "yes"
    for words, problem in (
        (["start"], "set_speed speed=FLOAT m/s (0 to 30)"),
        (["set_speed", "speed"], "write NAME=VALUE"),
        (["set_speed", "speed=1", "speed=2"], "given twice"),
        (["set_speed", "speed=31", "--queue"], "31 m/s is above 30 m/s"),
        (["set_speed", "speed=fast", "--queue"], "not of the type float"),
    ):
        refused = await hub.run("command", "send", "pump", *words)
        assert (refused.exit_code, problem in refused.stderr) == (2, True), refused.stderr


async def test_what_is_missing_is_named(hub: CommandedHub) -> None:
    """The device, or the name of the command; and a device that got no command is no error."""
    for words, problem in (
        (["command", "send"], "name the DEVICE"),
        (["command", "send", "--to", "pump*", "--dry-run"], "the NAME of the command is missing"),
    ):
        refused = await hub.run(*words)
        assert (refused.exit_code, problem in refused.stderr) == (2, True), refused.stderr
    async with command_agent(hub.url, hub.gateway, "unused"):
        listed = await hub.run("command", "list", "unused")
    assert (listed.exit_code, listed.stderr) == (0, "no command was sent to unused yet\n")


async def test_a_command_is_sent_again_with_its_id(serve: Callable[[Answer], PeerServer]) -> None:
    """If the connection breaks before an answer: the hub may have recorded it."""
    ids: list[str] = []
    sent = {"id": "0" * 32, "device": "pump", "name": "stop", "state": "queued", "states": [], "message": "", "late": 0}

    def answer(peer: BaseHTTPRequestHandler) -> None:
        if peer.command == "GET":
            respond(200, json.dumps({"commands": [{"name": "stop", "parameters": [], "confirm": False}]}).encode())(
                peer
            )
            return
        ids.append(json.loads(peer.rfile.read(int(peer.headers["Content-Length"])))["id"])
        if len(ids) == 1:
            peer.close_connection = True  # as a hub that is killed
        elif len(ids) == 2:
            respond(503, b'{"detail": "the hub starts", "code": "unavailable"}')(peer)
        else:
            respond(201, json.dumps(sent).encode())(peer)

    words = ["command", "send", "pump", "stop", "--queue", "--json", "--url", serve(answer).url, "--token", "hub_x"]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (done.exit_code, json.loads(done.stdout)) == (0, sent)
    assert len(ids) == 3
    assert len({*ids}) == 1
    assert re.fullmatch("[0-9a-f]{32}", ids[0])


async def test_a_queued_command_is_listed_shown_and_cancelled(hub: CommandedHub) -> None:
    """With its reasons; a command that is not there is an error."""
    queued = await hub.run("command", "send", "pump", "stop", "--queue", "--json")
    id = json.loads(queued.stdout)["id"]
    listed = await hub.run("command", "list", "pump", "--state", "queued")
    assert listed.stdout.splitlines()[1].split()[0] == id
    assert "sent when it connects again" in listed.stdout
    cancelled = await hub.run("command", "cancel", "pump", id)
    assert (cancelled.exit_code, cancelled.stdout) == (0, f"cancelled stop ({id})\n")
    shown = await hub.run("command", "show", "pump", id)
    assert [line.split()[2] for line in shown.stdout.splitlines()[2:]] == ["queued", "cancelled"]
    unknown = await hub.run("command", "show", "pump", "0" * 32)
    assert (unknown.exit_code, "pump has no command" in unknown.stderr) == (1, True)
    for words in (["show", "pump", "f" * 33], ["cancel", "pump", "XYZ"], ["jobs", "12"], ["jobs", "12", "--cancel"]):
        wrong = await hub.run("command", *words)
        assert wrong.exit_code == 2
        assert wrong.stderr.endswith("is no id: an id has 16 to 32 hexadecimal characters (0 to 9, a to f)\n")


def test_the_ids_in_the_examples_of_help_are_valid() -> None:
    """An example can be copied without an error about its id."""
    examples = " ".join(command.epilog or "" for command in device_command.app.registered_commands if command.epilog)
    ids = re.findall(r"\b[0-9a-f]{12,}\b", examples)
    assert len(ids) == 3
    for id in ids:
        msgspec.convert(id, CommandId)
