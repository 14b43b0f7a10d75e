"""The open WebSocket connections by their credentials, so that a revocation and a shutdown can end them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from starlette.types import Send

from wire.errors import Code, WireError


class Endable(Protocol):
    """A connection that can be ended with an error. `end` never waits and may be called twice."""

    def end(self, error: WireError) -> None:
        """Send the error and close with its close code."""


class Connections:
    """The open connections. During shutdown, a new connection is ended at once."""

    def __init__(self) -> None:
        self._credentials: dict[Endable, str | None] = {}
        self._closing: WireError | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._credentials)

    def add(self, connection: Endable, credential: str | None = None) -> None:
        """Add a connection, or the credential of one that has authenticated later."""
        self._credentials[connection] = credential
        if self._closing is not None:
            connection.end(self._closing)

    def remove(self, connection: Endable) -> None:
        """Remove a closed connection."""
        self._credentials.pop(connection, None)
        self._changed.set()

    def revoke(self, credentials: set[str]) -> None:
        """End every connection that was opened with one of these credentials."""
        error = WireError(Code.REVOKED, "the token was revoked or has expired")
        for connection, credential in list(self._credentials.items()):
            if credential in credentials:
                connection.end(error)

    def close(self) -> None:
        """End all connections, and every new one, because the hub is shutting down."""
        self._closing = WireError(Code.SHUTTING_DOWN, "the hub is shutting down")
        for connection in list(self._credentials):
            connection.end(self._closing)

    async def empty(self) -> None:
        """Wait until no connection is open."""
        while self._credentials:
            self._changed.clear()
            await self._changed.wait()


async def reject_upgrade(send: Send, status: int, text: str) -> None:
    """Answer a WebSocket upgrade with an HTTP status instead (extension websocket.http.response)."""
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
