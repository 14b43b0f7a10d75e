"""Control channel of a running agent: a Unix socket beside its spool, which only the agent's user can open.

A request and its answer are one line of JSON each. A port is held as long as the connection lasts, so a program that is
killed gives the port back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from device_agent.errors import AgentError
from wire.text import escaped

MAX_REQUEST_BYTES = 16 * 1024
"""Longest request: a port and a command line have a few hundred bytes. A longer one is refused."""

MAX_CONNECTIONS = 8
"""Requests at the same time. There are as many as people who flash boards; one more is refused."""

REQUEST_SECONDS = 10.0
"""Longest wait for a request, and for its answer: a port is released within milliseconds."""

_MAX_SOCKET_PATH = 100
"""Bytes of the path of a Unix socket: 108 with its end on Linux, 104 on macOS."""

_log = logging.getLogger(__name__)


@runtime_checkable
class PortOwner(Protocol):
    """A source that reads a port, and can release it."""

    def uses(self, port: str) -> bool:
        """Return whether this is a name of its port."""

    def held(self, reason: str) -> AbstractAsyncContextManager[str]:
        """Release the port meanwhile; return its path."""


class HoldRequest(msgspec.Struct, frozen=True):
    """Request for a port under any of these names. `program` and `pid` say who gets it."""

    names: list[str]
    program: str = ""
    pid: int = 0


class HoldAnswer(msgspec.Struct, frozen=True):
    """Answer to a request: the path of the port that was released, or an error; neither if no source reads the port."""

    port: str = ""
    error: str = ""


def control_path(spool: Path) -> Path:
    """Return the path of the control channel of the agent that uses this spool."""
    path = spool.with_name(f"{spool.name}.control")
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        path = spool.with_name(f"{hashlib.sha256(os.fsencode(spool.name)).hexdigest()[:12]}.control")
    return path


@asynccontextmanager
async def control_channel(spool: Path, sources: Sequence[object]) -> AsyncIterator[None]:
    """Answer requests meanwhile. The agent must have its spool open, so that no other agent has this channel."""
    owners = [source for source in sources if isinstance(source, PortOwner)]
    listener = _listener(control_path(spool)) if owners else None
    if listener is None or sys.platform == "win32":
        yield
        return
    channel = _Channel(owners)
    server = await asyncio.start_unix_server(channel.serve, sock=listener, limit=MAX_REQUEST_BYTES)
    try:
        yield
    finally:
        server.close()
        await channel.close()
        control_path(spool).unlink(missing_ok=True)


def _listener(path: Path) -> socket.socket | None:
    """Return a socket that listens at a path; None, with a warning, where there can be none."""
    if sys.platform == "win32":
        return None
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # a file that another thread creates at this moment is only less open
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        _log.warning("no control channel at %s: %s; `device-agent hold` does not find this agent", path, error)
        return None
    finally:
        os.umask(before)
    return listener


class _Channel:
    """Connections of one control channel."""

    def __init__(self, owners: Sequence[PortOwner]) -> None:
        self._owners = owners
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection, and hold the port until the connection ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) > MAX_CONNECTIONS:
                _send(writer, HoldAnswer(error=f"the agent has {MAX_CONNECTIONS} requests already"))
                return
            async with asyncio.timeout(REQUEST_SECONDS):
                line = await reader.readline()
            request = msgspec.json.decode(line, type=HoldRequest)
            await self._hold(request, reader, writer)
        except (OSError, ValueError, TimeoutError, msgspec.DecodeError) as error:
            _send(writer, HoldAnswer(error=f"the request cannot be read: {error}"))
        except asyncio.CancelledError:
            pass  # the agent stops
        finally:
            self._tasks.discard(task)
            with suppress(OSError):
                writer.close()

    async def _hold(self, request: HoldRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        owner = next((owner for owner in self._owners if any(map(owner.uses, request.names))), None)
        if owner is None:
            _send(writer, HoldAnswer())
            return
        reason = f"held for {escaped(request.program) or 'another program'} (process {request.pid}); read again when"
        async with owner.held(f"{reason} `device-agent hold` ends") as path:
            _send(writer, HoldAnswer(port=path))
            while await reader.read(1024):
                pass  # anything but the end means nothing

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _send(writer: asyncio.StreamWriter, answer: HoldAnswer) -> None:
    with suppress(OSError):
        writer.write(msgspec.json.encode(answer) + b"\n")


class HeldPort:
    """A port that an agent has released to this program."""

    def __init__(self, path: str, reader: asyncio.StreamReader) -> None:
        self.path = path
        self._reader = reader

    async def wait_agent_end(self) -> None:
        """Wait until the agent ends, which leaves the port free."""
        await self._reader.read()


@asynccontextmanager
async def held_port(channels: Sequence[Path], request: HoldRequest) -> AsyncIterator[HeldPort]:
    """Hold a port of one of these agents meanwhile. Raises AgentError."""
    if sys.platform == "win32":
        raise AgentError("hold is not available on Windows: stop the agent to flash the board")
    asked = 0
    for path in channels:
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_REQUEST_BYTES)
        except PermissionError:
            raise AgentError(f"no permission to use {path}: run the command as the user of the agent") from None
        except OSError:  # left behind by an agent that was killed
            continue
        asked += 1
        try:
            answer = await _ask(path, request, reader, writer)
            if answer.error:
                raise AgentError(f"the agent at {path} refused the request: {answer.error}")
            if answer.port:
                yield HeldPort(answer.port, reader)
                return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    name = request.names[0]
    if not asked:
        raise AgentError(
            f"no agent runs that could use {name}; if one runs with another spool or as another device, give --config, "
            "--spool or --device"
        )
    raise AgentError(f"no running agent uses {name}; `device-agent ports` shows which programs use it")


async def _ask(
    path: Path, request: HoldRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> HoldAnswer:
    try:
        writer.write(msgspec.json.encode(request) + b"\n")
        async with asyncio.timeout(REQUEST_SECONDS):
            return msgspec.json.decode(await reader.readline(), type=HoldAnswer)
    except (OSError, ValueError, TimeoutError, msgspec.DecodeError) as error:
        raise AgentError(f"the agent at {path} does not answer: {str(error) or 'it takes too long'}") from None
