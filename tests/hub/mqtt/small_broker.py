"""Small broker with configurable faults: missing acknowledgements, dropped connections, refusals, old versions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, NamedTuple

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14

WRONG_VERSION = bytes([0x20, 2, 0, 1])
"""CONNACK of a broker of MQTT 3.1.1 to MQTT 5; the broker then closes the connection (MQTT 3.1.1, 3.1.2.2)."""


class ReceivedPublish(NamedTuple):
    """PUBLISH packet that arrived at the broker."""

    topic: str
    payload: bytes
    qos: int
    id: int


class SmallBroker:
    """Broker with the parts of MQTT that a publisher needs.

    `version` is 5, or 4 for MQTT 3.1.1. It refuses subscriptions to the filters in `refused`. `answer` returns the
    reason code of a PUBACK, or None for no acknowledgement, and raises ConnectionError to drop the connection.
    `properties` are the encoded properties of CONNACK, `reasons` the reason codes of the first ones. `versions` and
    `flags` record every CONNECT.
    """

    def __init__(
        self,
        answer: Callable[[ReceivedPublish], int | None],
        *,
        properties: bytes = b"",
        version: int = 5,
        refused: Collection[str] = (),
        reasons: Sequence[int] = (),
    ) -> None:
        self.answer = answer
        self.versions: list[int] = []
        self.flags: list[int] = []
        self._reasons = list(reasons)
        self._version = version
        self._refused = refused
        self.got: list[ReceivedPublish] = []
        self.unacknowledged = 0
        self.most_unacknowledged = 0
        self.connections = 0
        self.port = 0
        self._properties = properties
        self._came = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._waiting: list[tuple[asyncio.StreamWriter, int]] = []

    async def count(self, count: int) -> list[ReceivedPublish]:
        """Wait for this many messages and return them."""
        while len(self.got) < count:
            self._came.clear()
            await self._came.wait()
        return self.got

    def acknowledge_all(self) -> None:
        """Send the acknowledgements that were held back."""
        for writer, id in self._waiting:
            self._acknowledge(writer, id, 0)
        self._waiting.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self.unacknowledged = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, rest = await _packet(reader)
                if kind >> 4 == CONNECT:
                    # After the protocol's name, "MQTT" with its length.
                    self.versions.append(rest[6])
                    if rest[6] != self._version:
                        writer.write(WRONG_VERSION)
                        break
                    self.flags.append(rest[7])
                    if self._version == 5:
                        reason = self._reasons.pop(0) if self._reasons else 0
                        writer.write(bytes([0x20, 3 + len(self._properties), 0, reason, len(self._properties)]))
                        writer.write(self._properties)
                    else:
                        writer.write(bytes([0x20, 2, 0, 0]))
                elif kind >> 4 == SUBSCRIBE:
                    self._subscribe(writer, rest)
                elif kind >> 4 == PUBLISH:
                    self._publish(writer, kind, rest)
                elif kind >> 4 == DISCONNECT:
                    break
        self._writers.discard(writer)
        writer.close()

    def drop(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()

    def send(self, data: bytes) -> None:
        """Send these bytes to every client."""
        for writer in self._writers:
            writer.write(data)

    def _subscribe(self, writer: asyncio.StreamWriter, rest: bytes) -> None:
        refusal, place = (0x87, 3 + rest[2]) if self._version == 5 else (0x80, 2)
        answers = bytearray()
        while place < len(rest):
            end = place + 2 + int.from_bytes(rest[place : place + 2], "big")
            answers.append(refusal if rest[place + 2 : end].decode() in self._refused else rest[end] & 3)
            place = end + 1
        head = rest[:2] + (b"\0" if self._version == 5 else b"")
        writer.write(bytes([0x90, len(head) + len(answers)]) + head + answers)

    def _publish(self, writer: asyncio.StreamWriter, kind: int, rest: bytes) -> None:
        qos = kind >> 1 & 3
        end = 2 + int.from_bytes(rest[:2], "big")
        topic = rest[2:end].decode()
        id = int.from_bytes(rest[end : end + 2], "big") if qos else 0
        end += 2 if qos else 0
        length, shift = 0, 0
        while self._version == 5:
            digit = rest[end]
            end += 1
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        got = ReceivedPublish(topic, rest[end + length :], qos, id)
        self.got.append(got)
        self._came.set()
        self.unacknowledged += 1
        self.most_unacknowledged = max(self.most_unacknowledged, self.unacknowledged)
        reason = self.answer(got)
        if reason is None:
            self._waiting.append((writer, id))
        elif qos:
            self._acknowledge(writer, id, reason)

    def _acknowledge(self, writer: asyncio.StreamWriter, id: int, reason: int) -> None:
        self.unacknowledged -= 1
        ending = bytes([reason, 0]) if reason else b""
        writer.write(bytes([0x40, 2 + len(ending)]) + id.to_bytes(2, "big") + ending)


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 127) << shift
        shift += 7
        if digit < 128:
            return kind, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def small_broker(answer: Callable[[ReceivedPublish], int | None], **options: Any) -> AsyncIterator[SmallBroker]:
    """Run a broker on a free port."""
    broker = SmallBroker(answer, **options)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        broker.drop()
        await server.wait_closed()
