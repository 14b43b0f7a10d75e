"""Connections to a broker for tests of the outbound side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from hub.mqtt.connection import BrokerConnection, BrokerOptions, ConnectionListener
from hub.mqtt.message import Message
from hub.mqtt.outbound import Outbound
from hub.mqtt.subscriptions import Subscription


class Client(ConnectionListener):
    """Client of a broker. It keeps what it receives, and counts the most messages that were ever in flight."""

    def __init__(self, port: int, outbound: Outbound | None) -> None:
        options = BrokerOptions("127.0.0.1", port, client_id="", clean_start=True)
        self.connection = BrokerConnection(options, self, mqtt5=True)
        self.received: list[Message] = []
        self.ended = asyncio.Event()
        self.most_in_flight = 0
        self._outbound = outbound
        self._came = asyncio.Event()
        self._subscribed = asyncio.Event()

    async def run(self) -> None:
        """Wait for the end of the connection."""
        await self.connection.closed()
        self.ended.set()
        if self._outbound is not None:
            self._outbound.disconnected()

    async def subscribe(self, filter: str) -> None:
        self._subscribed.clear()
        self.connection.subscribe([Subscription(filter)])
        await self._subscribed.wait()

    async def got(self, count: int) -> list[Message]:
        """Wait for this many messages and return them."""
        while len(self.received) < count:
            self._came.clear()
            await self._came.wait()
        return self.received

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        connection.acknowledge([message.id for message in messages if message.qos])
        self.received += messages
        self._came.set()

    def message_acknowledged(self, message_id: int, reason: int) -> None:
        if self._outbound is not None:
            self.most_in_flight = max(self.most_in_flight, self._outbound.counts.in_flight)
            self._outbound.acknowledged(message_id, reason)

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        self._subscribed.set()


@contextlib.asynccontextmanager
async def connected(port: int, outbound: Outbound | None = None) -> AsyncIterator[Client]:
    """Open a connection and close it at the end."""
    client = Client(port, outbound)
    await client.connection.open()
    if outbound is not None:
        outbound.connected(client.connection)
    watch = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        client.connection.close()
        await watch
