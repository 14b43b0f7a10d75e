"""A hub in the test's own process: every part is real, and a test can look into it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.app.services import HubServices, open_services
from hub.config.settings import load_settings
from hub.http.long_bodies import LongBodies
from hub.http.server import Server, listen
from hub.model.identity import Role
from tests.tasks import running_task
from wire import device as messages
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES

HOST = "127.0.0.1"


@asynccontextmanager
async def opened_hub(data: Path, **settings: Any) -> AsyncIterator[HubServices]:
    """Open a hub on a data directory. It does not listen, and its store is written only if a test runs its consumer."""
    data.mkdir(exist_ok=True)
    loaded = load_settings(None, {"data": data, **settings})
    async with open_services(loaded, listening_on=HOST) as services, running_task(services.readings.run()):
        yield services


@asynccontextmanager
async def http_client(
    services: HubServices, role: Role = Role.ADMIN, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of the hub's API with a new token of this role."""
    token = await new_token(services, role)
    transport = httpx.ASGITransport(app=services.application)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=headers, **options) as client:
        yield client


async def new_token(services: HubServices, role: Role, pattern: str | None = None) -> str:
    """Create a token; a device's or gateway's is for every device unless `pattern` says otherwise."""
    for_all = "*" if role is Role.GATEWAY else ""
    return (await services.registry.create_token(role, pattern=for_all if pattern is None else pattern)).text


@asynccontextmanager
async def listening(
    services: HubServices, *, send_buffer: int | None = None, long_bodies: LongBodies | None = None
) -> AsyncIterator[str]:
    """Serve the hub on a free port, and return the URL of its WebSockets. `send_buffer` bounds a connection's bytes."""
    listener = listen(HOST, 0)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = Server(services.application, listener, long_bodies=long_bodies)
    async with running_task(server.run()):
        yield f"ws://{HOST}:{listener.getsockname()[1]}"
        services.connections.close()
        await services.connections.empty()
    listener.close()


@asynccontextmanager
async def connected(
    url: str, *, token: str | None = None, receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket, with a token in its headers if there is one. `receive_buffer` bounds the bytes that wait."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= options.pop("headers", {})
    if receive_buffer is not None:
        # The size counts only if it is set before the connection is open.
        options["sock"] = raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.connect((HOST, urlsplit(url).port))
    async with connect(url, additional_headers=headers, proxy=None, compression=None, **options) as connection:
        yield connection


async def read_to_end(connection: ClientConnection) -> tuple[list[str | bytes], int]:
    """Return the messages up to the end of the connection, and its close code."""
    found: list[str | bytes] = []
    try:
        while True:
            found.append(await connection.recv())
    except ConnectionClosed as closed:
        return found, closed.rcvd.code if closed.rcvd else 1006


async def send_batches(
    url: str, token: str, hello: messages.Hello, *batches: messages.Data | messages.DeviceEvent
) -> None:
    """Connect an agent, and return when the hub has acknowledged its batches and the agent has disconnected."""
    async with connected(f"{url}/v1/device", token=token) as agent:
        sent: list[messages.AgentMessage] = [hello, *batches]
        for message in sent:
            await agent.send(AGENT_MESSAGES["json"].encode(message), text=True)
        last = batches[-1].seq if batches else 0
        acked = -1
        while acked < last:
            answer = HUB_MESSAGES["json"].decode(str(await agent.recv()).encode())
            assert not isinstance(answer, messages.Error), answer
            acked = answer.seq if isinstance(answer, messages.Ack) else max(acked, 0)
