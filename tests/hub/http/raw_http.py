"""A server in the test's process, and clients that send it raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from hub.http.server import Router, Server, listen

WHOLE_S = 30.0
"""Deadline of a test's single step: it only ends a test that fails."""


async def quiet(_: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket and wait for its end."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


@contextlib.asynccontextmanager
async def serving(http: ASGIApp, websocket: ASGIApp = quiet, **how: Any) -> AsyncIterator[int]:
    """Run a server with a WebSocket endpoint at /quiet and return its port."""
    listener = listen("127.0.0.1", 0)
    server = Server(Router({"/quiet": websocket}, http, check=lambda scope: None), listener, **how)
    running = asyncio.create_task(server.run())
    try:
        yield listener.getsockname()[1]
    finally:
        running.cancel()
        await asyncio.wait([running])


class Answer(NamedTuple):
    """A response as it was received."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client(NamedTuple):
    """A connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> Answer:
        """Return the next answer."""
        async with asyncio.timeout(WHOLE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.split("\r\n")
            headers: dict[str, str] = {}
            for name, _, value in (line.partition(": ") for line in lines if line):
                name = name.lower()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return Answer(int(status.split()[1]), headers, body)

    async def is_closed(self) -> bool:
        """Wait until the server closes, and return whether it sent nothing more."""
        try:
            async with asyncio.timeout(WHOLE_S):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def calling(port: int, *, limit: int = 1 << 22) -> AsyncIterator[Client]:
    """Open a connection, and end it at the end of the block. The client reads about `limit` bytes in advance."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limit)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    client = Client(*await asyncio.open_connection(sock=connection, limit=limit))
    try:
        yield client
    finally:
        client.writer.transport.abort()
