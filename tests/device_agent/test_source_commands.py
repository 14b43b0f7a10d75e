"""The commands of sources on the network, of programs and of recorded files, run as their users run them."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection, serve

from agent_client.option_group import option_words
from agent_client.rule_options import RuleOptions
from device_agent.commands import app
from device_agent.settings import load_settings
from device_agent.source_commands import LiveOptions, SourceCommand, TcpOptions, TrialOptions, source_table
from device_agent.sources.command import CommandSettings
from device_agent.uplink_options import UplinkOptions
from formats.rules import Rules
from tests.conditions import until
from tests.device_agent.peer import Peer
from tests.device_agent.simulated_gpsd import running_gpsd
from tests.programs import running_module
from wire.columns import unpack_times
from wire.device import Data

POSITION = {"class": "TPV", "device": "/dev/ttyACM0", "mode": 3, "time": "2026-11-28T15:00:00.000Z", "lat": 59.5}


def started(tmp_path: Path, *arguments: str) -> AbstractAsyncContextManager[Process]:
    """Run `device-agent` with a token, and with its state in this directory."""
    return running_module("device_agent", *arguments, HUB_TOKEN="secret", XDG_STATE_HOME=str(tmp_path))


async def test_the_sources_stream_and_end_in_order(peer: Peer, tmp_path: Path) -> None:
    """Each source of a file delivers to the hub; a signal ends the agent with 0."""

    async def serve_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"$IIHDT,274.07,T*14\r\n")
        await reader.read()
        writer.close()

    async def serve_messages(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.headers["X-Site"] == "north"
        await connection.send(json.dumps({"message": await connection.recv()}))
        await connection.wait_closed()

    program = "print('{\"program\": 1}', flush=True); import time; time.sleep(600)"
    async with AsyncExitStack() as stack:
        lines = await stack.enter_async_context(await asyncio.start_server(serve_lines, "127.0.0.1", 0))
        messages = await stack.enter_async_context(serve(serve_messages, "127.0.0.1", 0))
        gpsd = await stack.enter_async_context(running_gpsd("/dev/ttyACM0"))
        sources: list[dict[str, object]] = [
            {"kind": "tcp", "address": f"127.0.0.1:{lines.sockets[0].getsockname()[1]}"},
            {
                "kind": "websocket",
                "url": f"ws://127.0.0.1:{messages.sockets[0].getsockname()[1]}",
                "send": ["hello"],
                "headers": ["X-Site: north"],
            },
            {"kind": "gpsd", "address": f"127.0.0.1:{gpsd.port}"},
            {"kind": "command", "command": [sys.executable, "-c", program]},
        ]
        settings = [f'hub = "{peer.url}"', 'device = "boat"', f'spool_directory = "{tmp_path}"']
        for source in sources:
            settings += ["[[source]]", *(f"{key} = {json.dumps(value)}" for key, value in source.items())]
        (tmp_path / "agent.toml").write_text("\n".join(settings))
        process = await stack.enter_async_context(started(tmp_path, "run", "--config", str(tmp_path / "agent.toml")))
        await until(lambda: gpsd.clients)
        gpsd.report(**POSITION)
        await peer.until(lambda: all(peer.values(name) for name in ("heading", "message", "latitude", "program")))
        process.terminate()
        output = await process.communicate()
    assert process.returncode == 0, output
    assert peer.values("message") == ["hello"]
    assert peer.metrics["latitude"].unit == "°"
    peer.check_order()


async def test_replay_plays_a_log_live(peer: Peer, tmp_path: Path) -> None:
    """Its readings are of now, and no history; without a loop it ends with 0 when the hub has them."""
    (tmp_path / "log.jsonl").write_text('{"time": 1, "n": 1}\n{"time": 2, "n": 2}\n')
    arguments = ("replay", str(tmp_path / "log.jsonl"), "--hub", peer.url, "--as", "live", "--speed", "10")
    async with started(tmp_path, *arguments) as process:
        _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert peer.values("n") == [1, 2]
    batches = [entry.message for entry in peer.journal if isinstance(entry.message, Data)]
    times = [
        time
        for batch in batches
        for time in (unpack_times(batch.time) if isinstance(batch.time, bytes) else batch.time)
    ]
    assert times[1] - times[0] == 10**8
    assert times[0] > 10**18
    assert not any(batch.historical for batch in batches)


async def test_try_shows_what_arrives_and_sends_nothing(tmp_path: Path) -> None:
    """The exit code is 1 if something was refused."""
    program = 'print(\'{"t": 1}\\n{"t": "x"}\', flush=True); import time; time.sleep(600)'
    arguments = ("--try", "1", "--json", "--", sys.executable, "-c", program)
    async with started(tmp_path, "command", *arguments) as process:
        output, _ = await process.communicate()
    facts = json.loads(output)
    assert (process.returncode, facts["format"], facts["readings"], facts["refused"]) == (1, "json", 1, {"type": 1})
    assert not list(tmp_path.iterdir())


def test_try_says_why_nothing_arrives() -> None:
    """At once, and not after the time of the trial."""
    result = CliRunner().invoke(app, ["command", "--try", "600", "--", "no-such-program"])
    assert (result.exit_code, "not running: 'no-such-program' does not exist" in result.stderr) == (1, True)


def test_try_prints_a_source_and_a_command_to_copy(tmp_path: Path) -> None:
    """A valid table of agent.toml, without a device that was not given; what a program lacks is said once."""
    program = ["sh", "-c", "echo 't=1 x=on'"]
    result = CliRunner().invoke(app, ["command", "--try", "30", "--type", "t=integer", "--tag", "a=b", "--", *program])
    table, _, command = result.stdout.partition("settings to copy\n")[2].partition("\n\ncommand to copy\n")
    words = shlex.split(command)
    assert words[:6] == ["device-agent", "command", "--tag", "a=b", "--format", "pairs"]
    assert words[-5:] == ["t=integer", "--", *program]
    (tmp_path / "agent.toml").write_text(table)
    (source,) = load_settings(tmp_path / "agent.toml").source
    assert isinstance(source, CommandSettings)
    assert (list(source.command), source.device, source.rules.types) == (program, "", {"t": "integer"})
    assert result.stderr.count("it ended by itself; --interval SECONDS is for a program") == 1
    assert source_table("udp", {"address": "5000", "group": "", "device": "boat"}) == [
        "[[source]]", 'kind = "udp"', 'address = "5000"', 'device = "boat"',
    ]  # fmt: skip


def test_the_command_to_copy_has_what_was_given_but_no_token() -> None:
    """The options of the source, the hub and the spool; the rules are those that were found, with their files."""
    rules = RuleOptions(function=Path("decode frame.py"))
    uplink = UplinkOptions(token="secret", device="hall", hub="https://hub.example", spool_bytes=65_536)
    live = LiveOptions(TrialOptions(try_s=5), rules, uplink)
    words = ["tcp", "5000", *option_words(TcpOptions(listen=True, allow=["10.0.0.1"], silence=7.5))]
    assert shlex.split(SourceCommand("tcp", {}, words).text(live, Rules(format="function", device="hall"))) == [
        "device-agent", "tcp", "5000", "--listen", "--silence", "7.5", "--allow", "10.0.0.1",
        "--hub", "https://hub.example", "--spool-bytes", "65536",
        "--format", "function", "--device", "hall", "--function", "decode frame.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tcp", "gps"], "'gps' is not an address: write HOST:PORT"),
        (["tcp", "gps:1", "--allow", "10.0.0.0/8"], "allow is for a source that listens"),
        (["udp", "1", "--group", "10.0.0.1"], "is not a multicast group"),
        (["websocket", "http://x"], "is not the URL of a WebSocket"),
        (["websocket", "ws://x", "--http-header", "secret"], "the header 'secret' is not valid"),
        (["gpsd", "x:y"], "is not an address"),
        (["command", "--silence", "0", "--", "x"], "silence_s: Expected `float` > 0"),
        (["tcp", "gps:1", "--format", "regex"], 'format = "regex" and pattern must be set together'),
        (["replay", __file__, "--loop"], "loop is for live replay"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], reason: str) -> None:
    """The exit code is 2, before anything is opened."""
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
