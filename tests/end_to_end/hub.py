"""A real hub in a process of its own, for tests that kill it, restart it and send requests to it.

The process is forked, which skips the imports. Tests of the command itself pass COMMAND as the launcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import typer.main

from hub.cli import token
from tests.end_to_end.hub_child import LISTENING, HubChild

COMMAND = (sys.executable, "-W", "error", "-m", "hub")
FORK: tuple[str, ...] = ()
"""Launcher that forks a hub in 0.1 s, where the command spends 1.4 s of the processor on imports."""

NO_TLS = False
"""TLS setting of a client on loopback: it skips reading the system's certificates, which takes 45 ms each time."""

START_S = 60.0
"""A hub starts in a second. On a machine with a load of 20 it took 48 s."""

REQUEST_S = 30.0
SETTLED_S = 40.0
STOP_S = 40.0


class _Command:
    """A hub that a command starts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    async def line(self) -> str | None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            return None
        return line.decode().rstrip()

    async def wait(self) -> int | None:
        return await self._process.wait()

    def send_signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


class Hub:
    """A hub with its data directory. After a restart it listens on the same port."""

    def __init__(
        self,
        data: Path,
        *,
        options: Sequence[str] = (),
        launcher: Sequence[str] = FORK,
        command: Sequence[str] = COMMAND,
        log: Path | None = None,
    ) -> None:
        """Describe a hub. `launcher` is the command that starts it, or FORK."""
        self.data = data
        self.url = ""
        self.output: list[str] = []
        self.prepare: Callable[[], None] | None = None
        """Runs in the next processes before the hub. Only of a hub that is forked; it is pickled."""
        self._options = options
        self._launcher = launcher
        self._command = command
        self._port = 0
        self._process: HubChild | _Command | None = None
        self._admin: str | None = None
        self._log = log or data.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.exit_code is None

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    async def start(self, listen: str | None = None) -> None:
        """Return when the hub listens; raise AssertionError with its log when it ends instead."""
        listen = listen or f"127.0.0.1:{self._port}"
        if self._launcher:
            self._process = await self._launch(listen)
        else:
            self._process = HubChild(
                self.data,
                self._log.parent,
                options=self._options,
                listen=listen,
                log=self._log,
                prepare=self.prepare,
            )
        self.url = (await self.line(LISTENING)).removeprefix(LISTENING).split()[0]
        self._port = int(self.url.rpartition(":")[2])

    async def _launch(self, listen: str) -> _Command:
        arguments = ("run", "--data", str(self.data), "--listen", listen, *self._options)
        with self._log.open("ab") as log:
            return _Command(
                await asyncio.create_subprocess_exec(
                    *self._launcher, *arguments, stdout=asyncio.subprocess.PIPE, stderr=log
                )
            )

    async def line(self, beginning: str) -> str:
        """Return the next line on stdout with this beginning."""
        assert self._process is not None
        async with asyncio.timeout(START_S):
            while (line := await self._process.line()) is not None:
                self.output.append(line)
                if line.startswith(beginning):
                    return line
        raise AssertionError(f"the hub ended: {self.log()[-3000:]}")

    async def kill(self) -> None:
        """Send SIGKILL; do nothing when the hub has already ended or did not start."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def ended(self) -> int | None:
        """Wait until the process has ended by itself; return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> int | None:
        """Send SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                return await self._process.wait()
        except TimeoutError:
            self._process.send_signal(signal.SIGKILL)
            raise

    def log(self) -> str:
        """Return everything that the hub wrote to stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def token(self, role: str, *options: str) -> str:
        """Create a token with the command line and return it."""
        return await self.run("token", "create", "--data", str(self.data), "--role", role, *options)

    async def run(self, *arguments: str) -> str:
        """Run another `hub` command, which must succeed; return its stdout."""
        if arguments[0] == "token" and self._command is COMMAND:
            return _run_token(arguments[1:])
        process = await asyncio.create_subprocess_exec(*self._command, *arguments, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode().strip()

    async def admin(self) -> str:
        """Return an admin token, created on first use."""
        if self._admin is None:
            self._admin = await self.token("admin")
        return self._admin

    async def get(self, path: str, **query: Any) -> Any:
        """Return the JSON answer that an admin receives."""
        headers = {"Authorization": f"Bearer {await self.admin()}"}
        status, content = await asyncio.to_thread(_request, self.url, path, query, headers)
        assert status == 200, f"{path}: {status} {content.decode()}"
        return json.loads(content)

    async def retire_all(self) -> None:
        """Empty the fleet: the page then shows that of a new hub."""
        headers = {"Authorization": f"Bearer {await self.admin()}"}
        body = json.dumps({"devices": ["*"]})
        status, content = await asyncio.to_thread(
            _request, self.url, "/api/v1/devices/retire", {}, {**headers, "Content-Type": "application/json"}, body
        )
        assert status == 200, content

    async def settled(self) -> dict[str, Any]:
        """Return the accounting as soon as every consumer has all entries of the journal."""
        try:
            async with asyncio.timeout(SETTLED_S):
                while True:
                    flow: dict[str, Any] = await self.get("/api/v1/flow")
                    if all(consumer["lag"] == 0 for consumer in flow["consumers"]):
                        return flow
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the store does not catch up: {await self.problems()} {flow}") from None

    async def problems(self) -> dict[str, str]:
        """Return the problems that /ready reports; empty when the hub is ready."""
        status, content = await asyncio.to_thread(_request, self.url, "/ready")
        problems: dict[str, str] = json.loads(content)["problems"]
        assert status == (503 if problems else 200)
        return problems

    async def in_trouble(self) -> dict[str, str]:
        """Return the problems that /ready reports, as soon as there are any."""
        async with asyncio.timeout(START_S):
            while True:
                problems = await self.problems()
                if problems:
                    return problems
                await asyncio.sleep(0.05)

    def memory_bytes(self) -> int:
        """Return the resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def _request(
    url: str,
    path: str,
    query: Mapping[str, Any] = MappingProxyType({}),
    headers: Mapping[str, str] = MappingProxyType({}),
    body: str | None = None,
) -> tuple[int, bytes]:
    """Return the status and the content of the answer to a GET, or to a POST with a body.

    It needs 0.7 ms of the processor, a new client of httpx 8 ms, and the tests make thousands of requests.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=REQUEST_S)
    if parts.scheme == "https":
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(parts.hostname, parts.port, timeout=REQUEST_S, context=unchecked)
    with contextlib.closing(connection):
        method = "GET" if body is None else "POST"
        target = f"{parts.path}{path}?{urlencode(query, doseq=True)}"
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


def _run_token(arguments: Sequence[str]) -> str:
    """Run `hub token` in this process: 15 ms instead of the 0.5 s that a process needs to start."""
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        exit_code = _token_command()(arguments, prog_name="hub token", standalone_mode=False)
    assert not exit_code, errors.getvalue()
    return output.getvalue().strip()


@functools.cache
def _token_command() -> Callable[..., int | None]:
    return typer.main.get_command(token.app)


@contextlib.asynccontextmanager
async def running_hub(
    data: Path, *, options: Sequence[str] = (), launcher: Sequence[str] = FORK, log: Path | None = None
) -> AsyncIterator[Hub]:
    """Run a hub and stop it in order at the end, which must succeed."""
    hub = Hub(data, options=options, launcher=launcher, log=log)
    try:
        await hub.start()
        yield hub
        assert await hub.stop() == 0, hub.log()[-3000:]
    finally:
        await hub.kill()


@contextlib.asynccontextmanager
async def operator(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client with the rights of an operator, for long polls of a minute, too."""
    headers = {"Authorization": f"Bearer {await hub.token('operator')}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=70, verify=NO_TLS) as client:
        yield client
