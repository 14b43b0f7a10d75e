"""The device-agent command, run as its users run it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tty
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from websockets.protocol import State

from device_agent import Metric, SqliteSpool
from device_agent.commands import app
from tests.device_agent.batches import batch_of
from tests.device_agent.modbus_bus import pty_bus, slave
from tests.device_agent.peer import Peer
from tests.programs import run_module, running_module
from tests.tasks import running_task

started = partial(running_module, "device_agent")
run = partial(run_module, "device_agent")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_streams_this_computer_until_it_is_stopped(
    peer: Peer, tmp_path: Path, number: signal.Signals
) -> None:
    """Sensors arrive under the device's id with token and tags; a signal ends it in order, with 0 and JSON logs."""
    options = ("--device", "this-computer", "--interval", "0.05", "--tag", "site=cellar")
    async with started("run", *options, HUB_URL=peer.url, HUB_TOKEN="secret", XDG_STATE_HOME=str(tmp_path)) as process:
        await peer.until(lambda: len(peer.values("cpu.total")) >= 3)
        process.send_signal(number)
        output, errors = await process.communicate()
    assert (process.returncode, output) == (0, b"")
    assert all(json.loads(line)["level"] for line in errors.decode().splitlines())
    assert peer.headers[0]["Authorization"] == "Bearer secret"
    hello = peer.hellos[0]
    assert (hello.device, hello.tags, hello.durable) == ("this-computer", {"site": "cellar"}, True)
    assert hello.agent.startswith("telemetry-hub-agent")
    assert (tmp_path / "telemetry-hub" / "this-computer.spool").exists()
    peer.check_order()


async def test_a_server_that_floods_does_not_stop_the_agent(peer: Peer, tmp_path: Path) -> None:
    """Readings still reach the spool, the agent connects again, and a signal ends it."""

    async def flood() -> None:
        while True:
            for link in list(peer.links.values()):
                transport = link.connection.transport
                if link.connection.state is State.OPEN and transport.get_write_buffer_size() < 1 << 16:
                    transport.write(b"\x89\x00" * 50_000)
            await asyncio.sleep(0.01)

    arguments = ("run", "--device", "x", "--interval", "0.05", "--hub", peer.url, "--spool", str(tmp_path / "spool"))
    async with started(*arguments) as process:
        await peer.until(lambda: peer.received > 0)
        async with running_task(flood()):
            await peer.until(lambda: len(peer.hellos) > 1 and peer.hellos[-1].next_seq > peer.hellos[0].next_seq + 3)
            process.terminate()
            _, errors = await process.communicate()
    assert process.returncode == 0
    assert "more pings and pongs than a hub does" in errors.decode()
    peer.check_order()


async def test_serial_streams_a_port(peer: Peer, tmp_path: Path) -> None:
    """Lines of a real tty arrive; the device's id is made from the port's name when none is given.

    Another program gets the port meanwhile.
    """
    end, port = os.openpty()
    tty.setraw(port)
    (tmp_path / "sensor-7").symlink_to(os.ttyname(port))
    arguments = ("serial", str(tmp_path / "sensor-7"), "--baud", "9600", "--hub", peer.url, "--format", "json")
    async with started(*arguments, XDG_STATE_HOME=str(tmp_path)) as process:
        assert process.stderr is not None
        while b"reading from" not in await process.stderr.readline():
            pass
        os.write(end, b'{"t": 21.5}\nnoise\n{"t": 22.5}\n')
        await peer.until(lambda: peer.values("t") == [21.5, 22.5])
        lock = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB); sys.exit(7)"
        holding = ("hold", str(tmp_path / "sensor-7"), "--", sys.executable, "-c", lock, "{port}")
        assert (await run(*holding, XDG_STATE_HOME=str(tmp_path)))[0] == 7
        while b"reading from" not in await process.stderr.readline():
            pass
        os.write(end, b'{"t": 23.5}\n{"t": 24.5}\n')
        await peer.until(lambda: peer.values("t")[2:] == [23.5, 24.5])
        process.terminate()
        await process.communicate()
    os.close(end)
    os.close(port)
    assert process.returncode == 0
    assert peer.hellos[0].device.endswith("-sensor-7")


async def test_try_reads_a_file_as_the_agent_would(tmp_path: Path) -> None:
    """Nothing is stored; a metric has the type that the spool of the device has, and the command is ready to copy."""
    async with SqliteSpool(tmp_path / "kiln.spool", device="kiln") as spool:
        await spool.append(batch_of(1), [Metric("t", "float")])
    (tmp_path / "log.txt").write_text("t=off h=1,5\nt=on h=2,5\n")
    arguments = ["try", str(tmp_path / "log.txt"), "--device", "kiln", "--spool", str(tmp_path / "kiln.spool")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "format    pairs: " in result.stdout
    assert "t: off is not a number" in result.stdout
    copied = f"device-agent replay {tmp_path}/log.txt --as live --format pairs --device kiln --decimal ,\n"
    assert result.stdout.endswith(copied)
    facts = json.loads(CliRunner().invoke(app, ["try", "-", "--json"], input=b'{"a":1}\n').stdout)
    assert (facts["format"], facts["readings"], facts["target"]) == ("json", 1, "-")
    missing = CliRunner().invoke(app, ["try", str(tmp_path / "none")])
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)


async def test_replay_sends_a_log_as_history(peer: Peer, tmp_path: Path) -> None:
    """Everything is acknowledged when the command ends with 0; a small spool makes it wait and drops nothing.

    `--format msgpack` still names the encoding on the way to the hub, as in earlier versions.
    """
    file = tmp_path / "january.jsonl"
    file.write_text("".join(f'{{"time": {number}, "n": {number}, "text": "{"x" * 50}"}}\n' for number in range(5000)))
    arguments = (
        "replay",
        str(file),
        "--hub",
        peer.url,
        "--spool",
        str(tmp_path / "s"),
        "--spool-bytes",
        "100000",
        "--format",
        "msgpack",
    )
    code, output, errors = await run(*arguments)
    assert (code, output) == (0, ""), errors
    assert peer.values("n") == list(range(5000))
    assert all(getattr(entry.message, "historical", False) for entry in peer.journal)
    assert peer.hellos[0].device == "january"


async def test_replay_fails_where_lines_are_no_readings(peer: Peer, tmp_path: Path) -> None:
    """Lines that could not be sent make exit code 1 and are counted; the others have arrived."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 1, "n": 1}\nnoise\n{"time": 2, "n": "one"}\n{"time": 3, "n": 3}\n')
    code, _, errors = await run("replay", str(file), "--hub", peer.url, "--spool", str(tmp_path / "s"))
    assert code == 1
    assert errors.splitlines()[-1] == "device-agent: 2 lines or values were refused, 0 readings were rejected"
    assert peer.values("n") == [1, 3]


async def test_a_type_of_the_command_wins_over_the_spool(peer: Peer, tmp_path: Path) -> None:
    """Without it, the type of an earlier run stays, and values of another type are refused; `try` shows both."""
    file, spool = tmp_path / "kiln.jsonl", str(tmp_path / "s")
    corrected = ("--type", "level=float")
    file.write_text('{"time": 1, "level": "high"}\n')
    assert (await run("replay", str(file), "--hub", peer.url, "--spool", spool))[0] == 0
    file.write_text('{"time": 2, "level": 20.5}\n')
    for options, expected in (((), 1), (corrected, 0)):
        tried = CliRunner().invoke(app, ["try", str(file), "--device", "kiln", "--spool", spool, *options])
        assert tried.exit_code == expected, tried.stdout
        assert (await run("replay", str(file), "--hub", peer.url, "--spool", spool, *options))[0] == expected
    assert peer.values("level") == ["high", 20.5]
    assert peer.metrics == {"level": Metric("level", "float")}


async def test_a_superseded_agent_ends_with_its_reason(peer: Peer, tmp_path: Path) -> None:
    """Two agents of one device: the older one ends with 1 and says why."""
    options = ("run", "--device", "twin", "--hub", peer.url, "--spool")
    async with started(*options, str(tmp_path / "older")) as older:
        await peer.until(lambda: len(peer.hellos) == 1)
        async with started(*options, str(tmp_path / "newer")):
            _, errors = await older.communicate()
    assert older.returncode == 1
    assert errors.decode().splitlines()[-1] == "device-agent: a newer connection (superseded)"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("run", "--hub", "boiler"), id="no URL"),
        pytest.param(("run", "--device", "no spaces"), id="bad id"),
        pytest.param(("run", "--device", ".."), id="id of dots"),
        pytest.param(("run", "--tag", "site"), id="bad tag"),
        pytest.param(("run", "--ca", "nowhere.pem"), id="no authority"),
        pytest.param(("run", "--ca", "/dev/null"), id="empty authority"),
        pytest.param(("run", "--client-certificate", "/dev/null"), id="no key"),
        pytest.param(("run", "--interval", "0"), id="bad interval"),
        pytest.param(("run", "--format", "xml"), id="bad format"),
        pytest.param(("serial",), id="no port"),
        pytest.param(("replay", "nowhere.jsonl"), id="no file"),
        pytest.param(("dance",), id="no such command"),
    ],
)
def test_misuse_is_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A wrong argument is reported on standard error before anything is done."""
    result = CliRunner().invoke(app, arguments, env={"XDG_STATE_HOME": str(tmp_path)})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_device_id_is_reported_in_a_sentence() -> None:
    """It says what an id is made of, with one that works, and shows nothing of how it is checked."""
    result = CliRunner().invoke(app, ["run", "--device", "a b"])
    assert result.stderr == (
        "device-agent: 'a b' is no device id: 1 to 64 letters, digits, '.', '_' or '-', and neither '.' nor '..'; "
        "for example boiler-1\n"
    )


async def test_a_spool_that_cannot_be_had_is_exit_code_1(tmp_path: Path) -> None:
    """The spool of another device is reported and not changed."""
    async with SqliteSpool(tmp_path / "s", device="kettle") as spool:
        await spool.append(batch_of(1))
    code, _, errors = await run("run", "--device", "boiler", "--spool", str(tmp_path / "s"))
    assert code == 1
    assert "belongs to the device 'kettle'" in errors


async def test_status_tells_what_a_spool_holds(tmp_path: Path) -> None:
    """The status is the same whether or not the agent runs, but for that it says so. No name controls a terminal."""
    path = tmp_path / "s\x9b2J"

    def status() -> dict[str, Any]:
        result = CliRunner().invoke(app, ["status", "--spool", str(path), "--json"])
        assert (result.exit_code, result.stdout.isascii()) == (0, True)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    async with SqliteSpool(path, device="boiler") as spool:
        for number in range(3):
            await spool.append(batch_of(number))
        running = status()
    assert running["in_use"]
    assert {name: running[name] for name in ("device", "epoch", "waiting", "next_seq")} == {
        "device": "boiler", "epoch": spool.epoch, "waiting": 3, "next_seq": 4,
    }  # fmt: skip
    stopped = status()
    assert not stopped["in_use"]
    assert {name: stopped[name] for name in ("epoch", "waiting", "lost", "size_bytes")} == {
        name: running[name] for name in ("epoch", "waiting", "lost", "size_bytes")
    }
    text = CliRunner().invoke(app, ["status", "--spool", str(path)])
    assert (text.exit_code, "3 batches" in text.stdout, "not running" in text.stdout) == (0, True, True)
    (tmp_path / "boiler.spool").touch()
    absent = CliRunner().invoke(app, ["status", "--spool", str(tmp_path / "other.spool")])
    assert "beside it: boiler.spool" in absent.stderr
    absent = CliRunner().invoke(app, ["status", "--spool", str(tmp_path / "nothing")])
    says = "name the device with --device, or the file with --spool"
    assert (absent.exit_code, absent.stderr) == (
        1,
        f"device-agent: there is no spool {tmp_path / 'nothing'}: {says}\n",
    )


def test_help_has_examples_and_groups_of_options() -> None:
    """Each command shows how it is used, in a line that can be copied; many options have the same groups everywhere."""
    groups = ["Source", "What the lines mean", "Hub", "Spool", "Other options"]
    for command in ("run", "serial", "modbus", "try", "tcp", "udp", "websocket", "gpsd", "command", "replay", "check"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        examples = re.findall(r"\n\n  Example: .*(?=\n\n)", result.stdout)
        assert examples
        assert "Example: " not in "".join(re.split(r"\n\n  Example: .*(?=\n\n)", result.stdout))
        titles = [title for title in re.findall(r"(?m)^(\S.*):$", result.stdout) if title != "Arguments"]
        has_rules = command not in ("run", "modbus")
        expected = [group for group in groups if has_rules or group != "What the lines mean"]
        assert titles == (["Options"] if command == "check" else expected)
    for command in ("ports", "hold", "verify"):
        assert "\n\n  Example: device-agent " in CliRunner().invoke(app, [command, "--help"]).stdout
    assert "\n    device-agent replay log.jsonl --device kiln " in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("telemetry-hub ")


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("tcp://plc:502", "is a Modbus bus, and there is nothing to poll: give --map FILE, or --register such as"),
        ("tcp://plc:502", "; for lines over TCP: device-agent tcp plc:502 --try 10\n"),
        ("gps.local:10110", "; for a device on the network: device-agent tcp gps.local:10110 --try 10\n"),
        ("udp://0.0.0.0:5000", "; for a device on the network: device-agent udp 5000 --try 10\n"),
        ("wss://plc/data", "; for a device on the network: device-agent websocket wss://plc/data --try 10\n"),
        ("http://plc/data", "No such file or directory\n"),
        ("absent.log", "No such file or directory\n"),
    ],
)
def test_a_trial_of_an_address_names_the_command_for_it(target: str, hint: str) -> None:
    """`try` reads ports, files and buses; other sources have their own commands."""
    result = CliRunner().invoke(app, ["try", target])
    assert (result.exit_code != 0, hint in result.stderr) == (True, True), result.stderr


async def test_modbus_is_tried_and_polled_until_it_is_stopped(peer: Peer, tmp_path: Path) -> None:
    """`try` prints the registers; `modbus` delivers them, and the state of each slave as a source."""
    bus, spool = str(tmp_path / "bus"), str(tmp_path / "s")
    what = ("--slave", "3", "--register", "voltage=0:f32:1:V", "--timeout", "0.5")
    maps = tmp_path / "maps.toml"
    maps.write_text("[[maps]]\nslave = 4\nfields.x.address = 0\n")
    async with pty_bus(tmp_path / "bus", slave(3, [0x435C, 0x8000])):
        status, output, _ = await run("try", bus, *what)
        assert (status, output) == (0, "slave 3, holding registers\n  0 to 1         435C 8000  voltage = 220.5 V\n")
        command = ("modbus", bus, *what, "--map", str(maps), "--poll", "0.05", "--device", "meter", "--spool", spool)
        async with started(*command, "--hub", peer.url) as process:
            await peer.until(lambda: len(peer.values("voltage")) >= 3)
            await peer.until(lambda: bool(peer.statuses) and len(peer.statuses[-1].sources) == 3)
            sources = peer.statuses[-1].sources
            process.send_signal(signal.SIGTERM)
            await process.communicate()
    assert process.returncode == 0
    assert peer.values("voltage")[:3] == [220.5] * 3
    assert {source.name: source.error for source in sources} == {
        bus: "", f"{bus} slave 3": "", f"{bus} slave 4": "no answer within 0.5 s to holding register 0",
    }  # fmt: skip
