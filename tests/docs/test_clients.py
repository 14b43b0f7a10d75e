"""The programs of docs/clients: each is short, has its page, and delivers every reading through restarts of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from hub.app.services import HubServices
from hub.http.server import Server, listen
from hub.model.identity import Role
from tests.conditions import result_of, until
from tests.end_to_end.browser import open_browser
from tests.end_to_end.hub import NO_TLS, Hub, running_hub
from tests.hub.http.opened_hub import listening, new_token, opened_hub
from tests.services.clients import CLIENTS, SOURCES
from tests.services.server import free_port
from tests.tasks import running_task

MAX_LINES = 40
READINGS = 10_000
PROGRAMS = {
    "arduino": "arduino/telemetry.ino",
    "browser": "browser/telemetry.html",
    "curl": "curl/telemetry.sh",
    "go": "go/main.go",
    "java": "java/src/main/java/Telemetry.java",
    "java-server": "java-server/src/main/java/TelemetryServer.java",
    "node": "node/telemetry.mjs",
    "python": "python/telemetry.py",
}
COMMAND_PROGRAMS = {"node": "node/commands.mjs", "python": "python/commands.py"}
"""Programs that execute commands of operators."""

UNBUILT: dict[str, tuple[str, ...]] = {
    "curl": ("bash", str(SOURCES / PROGRAMS["curl"])),
    "python": (sys.executable, str(SOURCES / PROGRAMS["python"])),
}
"""Commands of the programs that need no build."""


@pytest.mark.parametrize("program", [*PROGRAMS.values(), *COMMAND_PROGRAMS.values()])
def test_a_program_fits_on_a_screen(program: str) -> None:
    """Each program has at most 40 lines, and no line is wider than 120 characters."""
    lines = (SOURCES / program).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 120


def test_every_program_has_a_page() -> None:
    """Each folder of docs/clients has a page of its name, which links to the program; the index links to the page."""
    assert {path.name for path in SOURCES.iterdir() if path.is_dir()} == set(PROGRAMS)
    index = (SOURCES / "README.md").read_text(encoding="utf-8")
    for name, program in (*PROGRAMS.items(), *COMMAND_PROGRAMS.items()):
        assert f"({name}.md)" in index
        assert f"({program})" in (SOURCES / f"{name}.md").read_text(encoding="utf-8")


LONG_LINES = 70
"""Lines of 4 KB that do not fit into one message."""

UNSENT = ("count 1", json.dumps({"text": "x" * 300_000}))
"""Lines that cannot be sent: no JSON object, and one that is longer than a message."""

LINES = "\n".join(
    (
        '{"count": 0}',
        "",
        *UNSENT,
        *(json.dumps({"count": number, "text": f"{number:x<4000}"}) for number in range(LONG_LINES)),
        json.dumps({f"text{number}": "x" * 60_000 for number in range(4)}),
        '{"count": "warm"}',
        '{"count": 1}',
    )
)
"""The last line has no newline, as that of `printf` and of a program that is cut off."""

READINGS_OF_LINES = 1 + 2 * LONG_LINES + 4 + 1


class HereHub(NamedTuple):
    """A hub in this process, with the URL of its WebSockets."""

    services: HubServices
    url: str


@pytest.fixture(scope="module")
async def here_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HereHub]:
    """Run a hub for all clients."""
    async with (
        opened_hub(tmp_path_factory.mktemp("clients") / "data") as services,
        listening(services, long_bodies=services.long_bodies) as url,
    ):
        yield HereHub(services, url)


NO_HUB = {
    "curl": "Failed to connect",
    "go": "no connection, .*connection refused",
    "java": "Connection failed",
    "node": "ECONNREFUSED",
    "python": "Connection refused",
}


@pytest.mark.parametrize("name", NO_HUB)
async def test_only_lines_that_cannot_be_sent_are_left_out(name: str, here_hub: HereHub, tmp_path: Path) -> None:
    """The client shows them, what the hub refuses, and before the hub starts that it is missing. A list that the hub
    refuses for its size would be sent again for ever."""
    services, port = here_hub.services, free_port()
    token = await new_token(services, Role.DEVICE, name)
    async with contextlib.AsyncExitStack() as stack:
        process, output = await start_client(stack, name, f"ws://127.0.0.1:{port}", token, tmp_path)
        assert process.stdin is not None
        process.stdin.write(LINES.encode())
        process.stdin.close()
        await until(partial(is_shown, output, NO_HUB[name]))
        server = Server(services.application, listen("127.0.0.1", port), long_bodies=services.long_bodies)
        await stack.enter_async_context(running_task(server.run()))
        assert await process.wait() == 0
    shown = output.read_text()
    assert services.devices.device(name).durable.readings == READINGS_OF_LINES
    assert len(re.findall("^not sent", shown, re.MULTILINE)) == len(UNSENT)
    assert all(line[:20] in shown for line in UNSENT)
    assert '"value":"warm"' in shown


WRONG_TOKEN = {
    "arduino": "no connection",
    "curl": "not_authenticated",
    "go": "no connection, .*bad handshake",
    "java": "Authentication failed",
    "node": "401",
    "python": "401 Unauthorized",
}


@pytest.mark.parametrize("name", WRONG_TOKEN)
async def test_a_client_says_that_its_token_is_wrong(name: str, here_hub: HereHub, tmp_path: Path) -> None:
    """Libraries that do not show the reason have a message that names the token."""
    async with contextlib.AsyncExitStack() as stack:
        process, output = await start_client(stack, name, here_hub.url, "wrong", tmp_path)
        assert process.stdin is not None
        process.stdin.write(b"1\n" if name == "arduino" else b'{"count": 1}\n')
        await until(partial(is_shown, output, WRONG_TOKEN[name]))


@pytest.mark.parametrize("name", ["arduino", "go"])
async def test_a_missing_connection_is_shown_once(name: str, tmp_path: Path) -> None:
    """These clients are silent while they try again."""
    attempts = 0

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(refuse, "127.0.0.1", 0))
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        _, output = await start_client(stack, name, url, "any", tmp_path)
        await until(lambda: attempts >= 3)
        assert output.read_text().count("no connection") == 1


def is_shown(output: Path, pattern: str) -> bool:
    return re.search(pattern, output.read_text()) is not None


async def start_client(
    stack: contextlib.AsyncExitStack, name: str, ws_url: str, token: str, folder: Path
) -> tuple[Process, Path]:
    """Start a program for the hub with this address; return it with the file of its output."""
    command, cwd = command_of(name)
    http_url = ws_url.replace("ws", "http", 1)
    endpoint = f"{http_url}/api/v1/readings" if name == "curl" else f"{ws_url}/v1/plain"
    host, _, port = ws_url.removeprefix("ws://").partition(":")
    settings = {"HUB_URL": endpoint, "HUB_TOKEN": token, "HUB_HOST": host, "HUB_PORT": port}
    output = folder / f"{name}-{port}.log"
    with output.open("wb") as log:
        process = await start(
            stack, command, cwd=cwd, env={**os.environ, **settings}, stdin=PIPE, stdout=log, stderr=log
        )
    return process, output


def command_of(name: str) -> tuple[tuple[str, ...], Path | None]:
    """Return the command of a program and its folder; skip the test with the reason if it is not built."""
    if name in UNBUILT:
        return UNBUILT[name], None
    (program,) = (program for program in CLIENTS if program.name == name)
    if not program.is_built():
        pytest.skip(program.advice)
    return program.command, program.folder


class Client(Protocol):
    """A client that runs."""

    async def send(self, first: int, end: int) -> None:
        """Let it send the readings with these numbers."""

    async def finish(self) -> None:
        """Wait until it has answers for everything; check that it has shown them."""


class ProgramClient:
    """A program that reads from its standard input and prints to a file."""

    def __init__(self, process: Process, output: Path, line: str) -> None:
        self._process = process
        self._output = output
        self._line = line

    async def send(self, first: int, end: int) -> None:
        assert self._process.stdin is not None
        lines = "".join(self._line % number for number in range(first, end))
        self._process.stdin.write((lines.rstrip() if end == READINGS else lines).encode())
        await self._process.stdin.drain()

    async def finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0, self._output.read_text()
        assert '{"ok":' in self._output.read_text()


class PageClient:
    """The page of docs/clients in a browser."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def send(self, first: int, end: int) -> None:
        lines = "\n".join([*UNSENT, *(f'{{"count": {number}}}' for number in range(first, end))])
        # Typing thousands of lines would take a minute.
        await self._page.get_by_label("Readings").evaluate("(field, lines) => { field.value = lines; }", lines)
        await self._page.get_by_role("button", name="Send").click()
        await expect(self._page.get_by_text("not sent: ")).to_contain_text("longer than 250,000 bytes")

    async def finish(self) -> None:
        await expect(self._page.locator("output")).to_have_text("0 waiting", timeout=120_000)
        await expect(self._page.locator("pre")).to_contain_text('{"ok":')


@pytest.mark.deadline(300)
@pytest.mark.parametrize("name", COMMAND_PROGRAMS)
async def test_a_program_executes_commands_through_a_restart_of_the_hub(name: str, tmp_path: Path) -> None:
    """Each command is executed once, and a wrong one is refused by the hub."""
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(tmp_path / "data"))
        command, cwd = command_of(name)
        program = (*command[:-1], str((cwd or SOURCES / name) / Path(COMMAND_PROGRAMS[name]).name))
        token = await device_token(hub, name)
        environment = {**os.environ, "HUB_URL": f"{hub.ws_url}/v1/plain", "HUB_TOKEN": token}
        process = await start(stack, program, cwd=cwd, env=environment, stdout=PIPE)
        assert process.stdout is not None
        for speed in (1.5, 2.5):
            await result_of(partial(commanded, hub, name, speed))
            assert await process.stdout.readline() == f"set_speed {speed}\n".encode()
            if speed == 1.5:
                await hub.kill()
                await hub.start()
        process.kill()
        assert await process.stdout.read() == b""


async def commanded(hub: Hub, device: str, speed: float) -> bool | None:
    """Send a call; return True when it has succeeded, and None while the device is not connected."""
    headers = {"Authorization": f"Bearer {await hub.admin()}"}
    body = {"name": "set_speed", "parameters": {"speed": speed}, "timeout_s": 60, "wait_s": 60}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=90, verify=NO_TLS) as client:
        answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
    if answer.status_code in (404, 409, 422):
        return None
    assert (answer.json()["state"], answer.json()["result"]) == ("succeeded", {"speed": speed})
    return True


async def device_token(hub: Hub, name: str) -> str:
    """Return a new token of a client's device."""
    return await hub.token("device", "--device", name)


@contextlib.asynccontextmanager
async def program_client(name: str, hub: Hub, folder: Path) -> AsyncIterator[Client]:
    """Run a program until the end of the block."""
    async with contextlib.AsyncExitStack() as stack:
        process, output = await start_client(stack, name, hub.ws_url, await device_token(hub, name), folder)
        yield ProgramClient(process, output, "%d\n" if name == "arduino" else '{"count": %d}\n')


async def start(stack: contextlib.AsyncExitStack, command: tuple[str, ...], **options: Any) -> Process:
    """Start a process, which ends with the stack."""
    process = await asyncio.create_subprocess_exec(*command, **options)

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process


class ServedClient(ProgramClient):
    """The Java server, which an agent reads. The agent has the answers of the hub, and continues without the server."""

    async def finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0, self._output.read_text()
        assert len(re.findall("^not sent", self._output.read_text(), re.MULTILINE)) == len(UNSENT)


@contextlib.asynccontextmanager
async def served_client(hub: Hub, folder: Path) -> AsyncIterator[Client]:
    """Run the Java server, and the agent with the command of its page, until the end of the block."""
    command, cwd = command_of("java-server")
    port = free_port()
    shown = re.findall(r"device-agent (websocket .+)", (SOURCES / "java-server.md").read_text(encoding="utf-8"))[0]
    arguments = shown.replace("8025", str(port)).replace("http://127.0.0.1:8600", hub.url)
    agent = (*arguments.replace("boiler-1", "java-server").split(), "--spool", str(folder / "agent.spool"))
    output = folder / "java-server.log"
    async with contextlib.AsyncExitStack() as stack:
        with output.open("wb") as log:
            server = await start(stack, (*command, str(port)), cwd=cwd, stdin=PIPE, stdout=log, stderr=log)
            # The last of these lines waits for the agent.
            assert server.stdin is not None
            server.stdin.write("\n".join(["", *UNSENT[:1], json.dumps({"t": "x" * 10**6}), '{"early": 1}\n']).encode())
            await until(partial(is_shown, output, "no agent is connected"))
            token = {"HUB_TOKEN": await device_token(hub, "java-server")}
            program = (sys.executable, "-m", "device_agent", *agent)
            await start(stack, program, env={**os.environ, **token}, stdout=log, stderr=log)
        yield ServedClient(server, output, '{"count": %d}\n')


async def page_client(browser: Browser, hub: Hub) -> Client:
    """Open the page from its file, as a person does."""
    page = await browser.new_page()
    await page.goto((SOURCES / PROGRAMS["browser"]).as_uri())
    await page.get_by_label("Hub").fill(f"{hub.ws_url}/v1/plain")
    await page.get_by_label("Token").fill(await device_token(hub, "browser"))
    return PageClient(page)


async def counts(hub: Hub) -> dict[str, int]:
    """Return the accepted readings of each device."""
    return {device["device"]: device["accepted"] for device in (await hub.get("/api/v1/flow"))["devices"]}


async def reached(hub: Hub, names: set[str], number: int) -> bool | None:
    """Return whether every client has delivered so many readings; None if not."""
    accepted = await counts(hub)
    return True if all(accepted.get(name, 0) >= number for name in names) else None


@pytest.mark.deadline(300)
async def test_every_client_delivers_all_readings_through_two_restarts(tmp_path: Path, chromium: Path) -> None:
    """The hub is killed while all clients send, and stopped later. Each of 10,000 readings of each client is in the
    store once, and each client shows the answers of the hub."""
    async with contextlib.AsyncExitStack() as stack:
        hub, browser = await asyncio.gather(
            stack.enter_async_context(running_hub(tmp_path / "data")),
            stack.enter_async_context(open_browser(chromium)),
        )
        programs = {
            name: program_client(name, hub, tmp_path) for name in PROGRAMS if name not in ("browser", "java-server")
        }
        programs["java-server"] = served_client(hub, tmp_path)
        page, *running = await asyncio.gather(
            page_client(browser, hub), *(stack.enter_async_context(program) for program in programs.values())
        )
        clients: dict[str, Client] = {"browser": page, **dict(zip(programs, running, strict=True))}
        for first, end, restart in ((0, 3_000, hub.kill), (3_000, 6_500, hub.stop)):
            await asyncio.gather(*(client.send(first, end) for client in clients.values()))
            await result_of(partial(reached, hub, set(clients), first + 200))
            await restart()
            await hub.start()
        await asyncio.gather(*(client.send(6_500, READINGS) for client in clients.values()))
        await asyncio.gather(*(client.finish() for client in clients.values()))
        await hub.settled()
        for name in clients:
            metric = "level" if name == "arduino" else "count"
            await result_of(partial(reached, hub, {name}, READINGS))
            history = await hub.get("/api/v1/history", device=name, metric=metric, points=0)
            assert sorted(history["series"][0]["values"]) == list(range(READINGS)), name
