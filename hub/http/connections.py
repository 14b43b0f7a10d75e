"""All open WebSocket connections, by the credential they were opened with: so that revoking and shutting down reach
them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from wire.errors import Code, WireError


class Endable(Protocol):
    """A connection that can be ended with an error; ending never waits and may be asked for twice."""

    def end(self, error: WireError) -> None:
        """Sends the error and closes with the code that belongs to it."""


class Connections:
    """Who is connected. Once closing, whoever comes is ended at once."""

    def __init__(self) -> None:
        self._credentials: dict[Endable, str | None] = {}
        self._closing: WireError | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._credentials)

    def add(self, connection: Endable, credential: str | None = None) -> None:
        """A connection was opened, or told its credential's id only now."""
        self._credentials[connection] = credential
        if self._closing is not None:
            connection.end(self._closing)

    def remove(self, connection: Endable) -> None:
        """The connection is gone."""
        self._credentials.pop(connection, None)
        self._changed.set()

    def revoke(self, credentials: set[str]) -> None:
        """Ends every connection that was opened with one of these credentials."""
        error = WireError(Code.REVOKED, "the token was revoked or has expired")
        for connection, credential in list(self._credentials.items()):
            if credential in credentials:
                connection.end(error)

    def close(self) -> None:
        """The hub is shutting down: ends all connections, now and from now on."""
        self._closing = WireError(Code.SHUTTING_DOWN, "the hub is shutting down")
        for connection in list(self._credentials):
            connection.end(self._closing)

    async def empty(self) -> None:
        """Returns when nobody is connected any more."""
        while self._credentials:
            self._changed.clear()
            await self._changed.wait()
