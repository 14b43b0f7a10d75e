"""Both ends of MQTT for tests that interrupt what is between them: a publisher that repeats until it is acknowledged, a
subscriber with a persistent session, and a connection to the broker that can be cut.

They write and read the bytes themselves, so that the tests control what is repeated and see what arrives twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from bench import mqtt_frames as mqtt

RETRY_S = 0.05
"""Delay before a rejected connection is tried again: nothing reports when a stopped broker is back."""

READ_BYTES = 64 * 1024


class MqttPeer:
    """One connection to a broker on 127.0.0.1, opened again whenever it ends; a context manager."""

    def __init__(self, port: int, client_id: str, *, level: int = 4) -> None:
        self._port = port
        self._client_id = client_id
        self._level = level
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=self._client_id)
        await self.until(lambda: self._writer is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when the condition holds after something arrived. Raise the error that ended the connection's task."""
        assert self._task is not None
        waiting = asyncio.create_task(self._wait(holds))
        try:
            await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await self._task
                raise AssertionError(f"{self._client_id} has ended")
            await waiting
        finally:
            waiting.cancel()

    async def _wait(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)

    async def _run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._speak(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                self._writer = None
                writer.transport.abort()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(mqtt.connect(self._client_id, level=self._level, clean=False))
        buffer = b""
        while arrived := await reader.read(READ_BYTES):
            buffer += arrived
            position = 0
            while (packet := mqtt.next_packet(buffer, position)) is not None:
                position = packet.end
                if packet.type == mqtt.CONNACK:
                    assert buffer[packet.start + 1] == 0, f"the broker rejected {self._client_id}"
                    self._writer = writer
                    self._connected(writer)
                else:
                    self._handle_packet(buffer, packet, writer)
            buffer = buffer[position:]
            async with self._changed:
                self._changed.notify_all()
            await writer.drain()

    def _connected(self, writer: asyncio.StreamWriter) -> None:
        """Handle a connection that the broker has accepted."""

    def _handle_packet(self, buffer: bytes, packet: mqtt.Packet, writer: asyncio.StreamWriter) -> None:
        """Handle a packet."""


class Publisher(MqttPeer):
    """Publisher at QoS 1 that repeats unacknowledged messages in order after it connects again."""

    def __init__(self, port: int, client_id: str) -> None:
        super().__init__(port, client_id)
        self._open: dict[int, tuple[str, bytes]] = {}
        self._id = 0
        self.repeated = 0

    def publish(self, topic: str, payload: bytes) -> None:
        """Submit a message; `drain` returns when all are acknowledged."""
        assert len(self._open) < mqtt.MAX_PACKET_ID
        self._id = self._id % mqtt.MAX_PACKET_ID + 1
        self._open[self._id] = topic, payload
        if self._writer is not None:
            self._writer.write(mqtt.publish(topic, payload, qos=1, packet_id=self._id))

    async def drain(self) -> None:
        """Return when every message is acknowledged."""
        await self.until(lambda: not self._open)

    def _connected(self, writer: asyncio.StreamWriter) -> None:
        self.repeated += len(self._open)
        for packet_id, (topic, payload) in self._open.items():
            writer.write(mqtt.publish(topic, payload, qos=1, packet_id=packet_id, dup=True))

    def _handle_packet(self, buffer: bytes, packet: mqtt.Packet, writer: asyncio.StreamWriter) -> None:
        if packet.type == mqtt.PUBACK:
            # An acknowledgement of an earlier connection may arrive again after the broker's restart.
            self._open.pop(mqtt.packet_id_of(buffer, packet), None)


class Subscriber(MqttPeer):
    """Subscriber that passes each message of `filter` to `on_message` and acknowledges it; the broker keeps messages
    while it is away."""

    def __init__(self, port: int, client_id: str, filter: str, on_message: Callable[[mqtt.Published], None]) -> None:
        super().__init__(port, client_id, level=5)
        self._filter = filter
        self._on_message = on_message
        self._subscribed = False

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.until(lambda: self._subscribed)
        return self

    def _connected(self, writer: asyncio.StreamWriter) -> None:
        writer.write(mqtt.subscribe(1, self._filter, 1, level=5))

    def _handle_packet(self, buffer: bytes, packet: mqtt.Packet, writer: asyncio.StreamWriter) -> None:
        if packet.type == mqtt.SUBACK:
            self._subscribed = True
        elif packet.type == mqtt.PUBLISH:
            message = mqtt.read_publish(buffer, packet, level=5)
            self._on_message(message)
            if message.qos:
                writer.write(mqtt.puback(message.id))


class Forwarder:
    """Forwards connections from `port` to a broker. When it cuts them, both sides see a reset."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._forwarding: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._came = asyncio.Event()
        self.port = 0

    async def cut(self) -> None:
        """Wait for a connection on which the broker has sent something, and cut it."""
        await self._came.wait()
        self._came.clear()
        for task in [*self._forwarding]:
            task.cancel()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side or the test ends it."""
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._both(reader, writer, up_reader, up_writer))
        self._forwarding[task] = writer
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.wait([task])
            del self._forwarding[task]
            for end in (writer, up_writer):
                end.transport.abort()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            sending = asyncio.create_task(_copy(reader, up_writer, asyncio.Event()))
            receiving = asyncio.create_task(_copy(up_reader, writer, self._came))
            try:
                await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                receiving.cancel()
                await asyncio.wait([sending, receiving])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(READ_BYTES):
            writer.write(part)
            came.set()
            await writer.drain()


@contextlib.asynccontextmanager
async def forwarder_to(broker_port: int) -> AsyncIterator[Forwarder]:
    """Forward connections to the broker on this port of 127.0.0.1."""
    forwarder = Forwarder(broker_port)
    server = await asyncio.start_server(forwarder.forward, "127.0.0.1", 0)
    forwarder.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield forwarder
        finally:
            for task in [*forwarder._forwarding]:
                task.cancel()
