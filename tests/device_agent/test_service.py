"""The agent as a service: the command with a file of settings, real ports, signals and a supervisor's socket."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent import Agent
from device_agent.commands import app
from device_agent.service import AgentService
from device_agent.settings import load_settings
from device_agent.spool.status import read_status
from device_agent.status_file import AgentStatus, read_agent_status
from tests.conditions import result_of, until
from tests.device_agent.peer import Peer
from tests.device_agent.pty_port import PtyPort
from tests.programs import running_module


def service(tmp_path: Path, *arguments: str, **environment: str) -> AbstractAsyncContextManager[Process]:
    """Run `device-agent run --config` on the file in this directory."""
    return running_module("device_agent", "run", "--config", str(tmp_path / "agent.toml"), *arguments, **environment)


async def opened(process: Process, *ports: PtyPort) -> list[str]:
    """Return when the service reads these ports, with the log up to then; what is written before is lost."""
    assert process.stderr is not None
    events: list[str] = []
    waiting = {f"reading from {port.path}" for port in ports}
    while waiting:
        line = (await process.stderr.readline()).decode()
        assert line, "the service ended"
        events.append(json.loads(line)["event"])
        waiting = {text for text in waiting if not events[-1].startswith(text)}
    return events


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[PtyPort, PtyPort]]:
    """Two ports that are plugged in."""
    made = PtyPort(tmp_path / "a"), PtyPort(tmp_path / "b")
    for port in made:
        port.plug_in()
    yield made
    for port in made:
        port.pull()


def configure(tmp_path: Path, peer: Peer, sources: str, settings: str = "") -> None:
    """Write agent.toml."""
    text = f'hub = "{peer.url}"\ndevice = "kiln"\nspool_directory = "spools"\ntoken_file = "token"\n'
    (tmp_path / "agent.toml").write_text(f"{text}{settings}\n{sources}", encoding="utf-8")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)


def device_of(port: PtyPort) -> str:
    """Return a source that reads the port, for a device with its name."""
    return f'[[source]]\nkind = "serial"\nport = "{port.path}"\ndevice = "{port.path.name}"'


async def status_of(tmp_path: Path, device: str) -> AgentStatus:
    """Return the next status of a device."""

    async def read() -> AgentStatus | None:
        return read_agent_status(tmp_path / "spools" / f"{device}.spool")

    return await result_of(read)


async def test_several_sources_of_several_devices_are_one_service(
    peer: Peer, tmp_path: Path, ports: tuple[PtyPort, PtyPort]
) -> None:
    """Names have their prefix, reports are by exception, and each device has a spool and a connection of its own.

    SIGTERM ends it in order: a value that a rule held back is in the hub.
    """
    sources = """
        [[report]]
        metrics = ["a.*"]
        deadband = 1
        [[source]]
        kind = "serial"
        port = "a"
        prefix = "a."
        name = "left"
        [[source]]
        kind = "serial"
        port = "b"
        device = "boiler"
    """.replace('port = "', f'port = "{tmp_path}/')
    configure(tmp_path, peer, sources)
    async with service(tmp_path) as process:
        await opened(process, *ports)
        for value in (20.0, 20.5, 30.0, 30.5):
            await ports[0].write(b'{"t": %g}\n' % value)
        await ports[1].write(b'{"t": 5}\n')
        await peer.until(lambda: peer.values("t") == [5] and len(peer.values("a.t")) == 3)
        status = await status_of(tmp_path, "kiln")
        assert [detail.name for detail in status.details] == ["left"]
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert peer.values("a.t") == [20.0, 20.5, 30.0, 30.5]
    assert {hello.device for hello in peer.hellos} == {"kiln", "boiler"}
    assert peer.headers[0]["Authorization"] == "Bearer secret"
    assert {entry.device for entry in peer.journal} == {"kiln", "boiler"}
    peer.check_order()


async def test_each_device_waits_for_its_own_acknowledgements(
    peer: Peer, tmp_path: Path, ports: tuple[PtyPort, PtyPort], caplog: pytest.LogCaptureFixture
) -> None:
    """A device that has nothing to send ends at once, and cuts no other one short."""
    silent, busy = (device_of(port) for port in ports)
    configure(tmp_path, peer, f"{silent}\n{busy}")
    caplog.set_level("INFO")
    service = AgentService(load_settings(tmp_path / "agent.toml"))
    running = asyncio.create_task(service.run(lambda: None))
    await until(lambda: all(f"reading from {port.path}" in caplog.text for port in ports))
    await peer.until(lambda: len(peer.links) == 2)
    peer.hold()
    await ports[1].write(b'{"t": 1}\n')
    await peer.until(lambda: peer.received == 1)
    running.cancel()
    await peer.until(lambda: len(peer.links) == 1)
    await peer.release()
    await asyncio.gather(running, return_exceptions=True)
    assert read_status(tmp_path / "spools" / "b.spool").waiting == 0


async def test_a_device_that_cannot_start_does_not_stop_the_others(
    peer: Peer, tmp_path: Path, ports: tuple[PtyPort, PtyPort], caplog: pytest.LogCaptureFixture
) -> None:
    """The service is ready with the others; the error is that of the service at its end."""
    first, second = (device_of(port) for port in ports)
    configure(tmp_path, peer, f"{first}\n{second}")
    caplog.set_level("INFO")
    (tmp_path / "spools").mkdir()
    ready = asyncio.Event()
    async with Agent(peer.url, device="a", spool=tmp_path / "spools" / "a.spool"):
        running = asyncio.create_task(AgentService(load_settings(tmp_path / "agent.toml")).run(ready.set))
        await ready.wait()
        await until(lambda: f"reading from {ports[1].path}" in caplog.text)
        await ports[1].write(b'{"t": 1}\n')
        await peer.until(lambda: peer.values("t") == [1])
    assert "the agent of a ended, the others continue" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_reload_replaces_the_sources_and_keeps_what_works(
    peer: Peer, tmp_path: Path, ports: tuple[PtyPort, PtyPort]
) -> None:
    """A supervisor learns each step. Settings with a problem change nothing, and are logged with key and line."""
    first, second = (
        f'[[source]]\nkind = "serial"\nport = "{port.path}"\nprefix = "{port.path.name}."' for port in ports
    )
    configure(tmp_path, peer, first)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        loop = asyncio.get_running_loop()

        async def notice(wanted: str) -> None:
            while not (await loop.sock_recv(receiver, 4096)).startswith(wanted.encode()):
                pass

        async with service(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as process:
            await notice("READY=1")
            await notice("WATCHDOG=1")
            await opened(process, ports[0])
            await ports[0].write(b'{"t": 1}\n')
            await peer.until(lambda: peer.values("a.t") == [1])
            configure(tmp_path, peer, first + "\nbaudd = 9600")
            process.send_signal(signal.SIGHUP)
            await notice("RELOADING=1")
            await notice("READY=1")
            await ports[0].write(b'{"t": 2}\n')
            await peer.until(lambda: peer.values("a.t") == [1, 2])
            configure(tmp_path, peer, second)
            process.send_signal(signal.SIGHUP)
            await notice("RELOADING=1")
            await notice("READY=1")
            events = await opened(process, ports[1])
            await ports[1].write(b'{"t": 3}\n')
            await peer.until(lambda: peer.values("b.t") == [3])
            process.send_signal(signal.SIGTERM)
            await notice("STOPPING=1")
            await process.communicate()
    assert process.returncode == 0
    problem = f"agent.toml:10: source 1 (serial {ports[0].path}): baudd: there is no such setting; did you mean baud?"
    assert any(problem in text for text in events)
    assert any(text.startswith("settings reloaded") for text in events)
    assert len({hello.epoch for hello in peer.hellos}) == 1
    peer.check_order()


async def test_a_corrected_token_needs_no_restart(peer: Peer, tmp_path: Path) -> None:
    """The file is read for each connection; a file that other users can read is a warning."""
    configure(tmp_path, peer, '[[source]]\nkind = "host"\ninterval_s = 0.05')
    (tmp_path / "token").chmod(0o644)
    peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "0"}
    async with service(tmp_path, "--log-level", "warning") as process:
        await peer.until(lambda: peer.upgrades > 0)
        (tmp_path / "token").write_text("corrected")
        peer.refusal = None
        await peer.until(lambda: bool(peer.values("cpu.total")))
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert peer.headers[-1]["Authorization"] == "Bearer corrected"
    assert b"chmod 600" in errors


async def test_wrong_settings_and_options_that_do_not_fit_are_misuse(peer: Peer, tmp_path: Path) -> None:
    """Exit code 2 and a line for each problem, so that systemd does not try again."""
    configure(tmp_path, peer, '[[source]]\nkind = "host"\ninterval = 5', settings="devise = 5")
    async with service(tmp_path) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert [line.partition("agent.toml")[2].partition(": there")[0] for line in errors.decode().splitlines()] == [
        ":5: devise", ":8: source 1 (host): interval",
    ]  # fmt: skip
    async with service(tmp_path, "--interval", "5") as process:
        _, errors = await process.communicate()
    assert (process.returncode, b"--interval does not fit --config" in errors) == (2, True)


async def test_the_status_of_a_file_has_all_its_devices(peer: Peer, tmp_path: Path) -> None:
    """A device that has never run is named, and hides no other one."""
    configure(tmp_path, peer, '[[source]]\nkind = "host"\n[[source]]\nkind = "host"\nname = "b"\ndevice = "new"')
    (tmp_path / "spools").mkdir()
    async with Agent(peer.url, device="kiln", spool=tmp_path / "spools" / "kiln.spool") as agent:
        await agent.send({"n": 1})
    arguments = ["status", "--config", str(tmp_path / "agent.toml")]
    text = CliRunner().invoke(app, arguments).stdout
    assert "device   kiln\n" in text
    assert "there is no spool" in text.split("\n\n")[1]
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert ([fact.get("device") for fact in facts], "error" in facts[1]) == (["kiln", None], True)
