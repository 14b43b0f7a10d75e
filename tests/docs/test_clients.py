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
from typing import Any, Protocol

import pytest
from playwright.async_api import Page, expect

from hub.model.identity import Role
from tests.conditions import result_of
from tests.end_to_end.browser import open_browser
from tests.end_to_end.hub import Hub, running_hub
from tests.hub.http.opened_hub import listening, new_token, opened_hub
from tests.services.clients import CLIENTS, SOURCES
from tests.services.server import free_port

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
UNBUILT: dict[str, tuple[str, ...]] = {
    "curl": ("bash", str(SOURCES / PROGRAMS["curl"])),
    "python": (sys.executable, str(SOURCES / PROGRAMS["python"])),
}
"""Commands of the programs that need no build."""


@pytest.mark.parametrize("program", PROGRAMS.values())
def test_a_program_fits_on_a_screen(program: str) -> None:
    """Each program has at most 40 lines, and no line is wider than 120 characters."""
    lines = (SOURCES / program).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 120


def test_every_program_has_a_page() -> None:
    """Each folder of docs/clients has a page of its name, which links to the program; the index links to the page."""
    assert {path.name for path in SOURCES.iterdir() if path.is_dir()} == set(PROGRAMS)
    index = (SOURCES / "README.md").read_text(encoding="utf-8")
    for name, program in PROGRAMS.items():
        assert f"({name}.md)" in index
        assert f"({program})" in (SOURCES / f"{name}.md").read_text(encoding="utf-8")


LONG_LINES = 150
"""Lines of 4 KB: a hundred of them do not fit into a message."""


@pytest.mark.parametrize("name", ["curl", "python", "node"])
async def test_long_lines_travel_in_several_messages(name: str, tmp_path: Path) -> None:
    """A batch that the hub refuses for its size would be sent again for ever."""
    lines = "".join(json.dumps({"count": number, "text": f"{number:x<4000}"}) + "\n" for number in range(LONG_LINES))
    readings, _ = await delivered(name, lines, tmp_path)
    assert readings == 2 * LONG_LINES


@pytest.mark.parametrize("lines", ['{"count": 0}', '{"count": 0}\n{"count": 1}'])
async def test_the_last_line_may_have_no_newline(lines: str, tmp_path: Path) -> None:
    """`printf` and a program that is cut off print such a line. The shell's `read` fails for it."""
    readings, _ = await delivered("curl", lines, tmp_path)
    assert readings == lines.count("{")


@pytest.mark.parametrize("name", ["python", "node"])
async def test_a_bad_line_is_shown_and_the_others_are_sent(name: str, tmp_path: Path) -> None:
    """Empty lines are skipped without a message."""
    readings, errors = await delivered(name, '{"count": 0}\n\n \n{"count": \n{"count": 1}\n', tmp_path)
    assert readings == 2
    assert len(re.findall("^not sent: ", errors, re.MULTILINE)) == 1
    assert '{"count": ' in errors


async def delivered(name: str, lines: str, folder: Path) -> tuple[int, str]:
    """Let a program send these lines to a hub in this process. Return the stored readings, and what it printed."""
    programs = {program.name: program for program in CLIENTS}
    if name in programs and not programs[name].is_built():
        pytest.skip(programs[name].advice)
    command, cwd = (programs[name].command, programs[name].folder) if name in programs else (UNBUILT[name], None)
    output = folder / "output"
    async with (
        opened_hub(folder / "data") as services,
        listening(services, long_bodies=services.long_bodies) as url,
        contextlib.AsyncExitStack() as stack,
    ):
        endpoint = f"{url.replace('ws', 'http', 1)}/api/v1/readings" if name == "curl" else f"{url}/v1/plain"
        settings = {"HUB_URL": endpoint, "HUB_TOKEN": await new_token(services, Role.DEVICE, name)}
        with output.open("wb") as log:
            process = await start(
                stack, command, cwd=cwd, env={**os.environ, **settings}, stdin=PIPE, stdout=log, stderr=log
            )
        await asyncio.wait_for(process.communicate(lines.encode()), 30)
        assert process.returncode == 0, output.read_text()
        return services.devices.device(name).durable.readings, output.read_text()


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
        self._process.stdin.write("".join(self._line % number for number in range(first, end)).encode())
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
        lines = "\n".join(f'{{"count": {number}}}' for number in range(first, end))
        # Typing thousands of lines would take a minute.
        await self._page.get_by_label("Readings").evaluate("(field, lines) => { field.value = lines; }", lines)
        await self._page.get_by_role("button", name="Send").click()

    async def finish(self) -> None:
        await expect(self._page.locator("output")).to_have_text("0 waiting", timeout=120_000)
        await expect(self._page.locator("pre")).to_contain_text('{"ok":')


async def device_token(hub: Hub, name: str) -> str:
    """Return a new token of a client's device."""
    return await hub.token("device", "--device", name)


@contextlib.asynccontextmanager
async def program_client(
    name: str, command: tuple[str, ...], hub: Hub, folder: Path, cwd: Path | None = None
) -> AsyncIterator[Client]:
    """Run a program until the end of the block."""
    endpoint = f"{hub.url}/api/v1/readings" if name == "curl" else f"{hub.ws_url}/v1/plain"
    host, _, port = hub.url.removeprefix("http://").partition(":")
    settings = {"HUB_URL": endpoint, "HUB_TOKEN": await device_token(hub, name), "HUB_HOST": host, "HUB_PORT": port}
    output = folder / f"{name}.log"
    async with contextlib.AsyncExitStack() as stack:
        with output.open("wb") as log:
            process = await start(
                stack, command, cwd=cwd, env={**os.environ, **settings}, stdin=PIPE, stdout=log, stderr=log
            )
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


@contextlib.asynccontextmanager
async def served_client(command: tuple[str, ...], hub: Hub, folder: Path, cwd: Path) -> AsyncIterator[Client]:
    """Run the Java server, and the agent with the command of its page, until the end of the block."""
    port = free_port()
    shown = re.findall(r"device-agent (websocket .+)", (SOURCES / "java-server.md").read_text(encoding="utf-8"))[0]
    arguments = shown.replace("8025", str(port)).replace("http://127.0.0.1:8600", hub.url)
    agent = (*arguments.replace("boiler-1", "java-server").split(), "--spool", str(folder / "agent.spool"))
    output = folder / "java-server.log"
    async with contextlib.AsyncExitStack() as stack:
        with output.open("wb") as log:
            server = await start(stack, (*command, str(port)), cwd=cwd, stdin=PIPE, stdout=log, stderr=log)
            token = {"HUB_TOKEN": await device_token(hub, "java-server")}
            program = (sys.executable, "-m", "device_agent", *agent)
            await start(stack, program, env={**os.environ, **token}, stdout=log, stderr=log)
        yield ServedClient(server, output, '{"count": %d}\n')


@contextlib.asynccontextmanager
async def page_client(chromium: Path, hub: Hub) -> AsyncIterator[Client]:
    """Open the page from its file, as a person does."""
    async with open_browser(chromium) as browser:
        page = await browser.new_page()
        await page.goto((SOURCES / PROGRAMS["browser"]).as_uri())
        await page.get_by_label("Hub").fill(f"{hub.ws_url}/v1/plain")
        await page.get_by_label("Token").fill(await device_token(hub, "browser"))
        yield PageClient(page)


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
    async with running_hub(tmp_path / "data") as hub, contextlib.AsyncExitStack() as stack:
        clients: dict[str, Client] = {"browser": await stack.enter_async_context(page_client(chromium, hub))}
        commands = {**UNBUILT}
        for program in CLIENTS:
            if not program.is_built():
                pytest.skip(program.advice)
            commands[program.name] = program.command
        folders = {program.name: program.folder for program in CLIENTS}
        for name, command in commands.items():
            running = (
                served_client(command, hub, tmp_path, folders[name])
                if name == "java-server"
                else program_client(name, command, hub, tmp_path, folders.get(name))
            )
            clients[name] = await stack.enter_async_context(running)
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
