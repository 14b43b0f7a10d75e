"""A hub's end of device conversations in this event loop: it acknowledges, and shows its books as a hub does."""

from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from wire import device, limits
from wire.codec import AGENT_MESSAGES, FORMAT_OF_SUBPROTOCOL, HUB_MESSAGES
from wire.columns import unpack_floats, unpack_times
from wire.device_session import HubDeviceSession
from wire.errors import Close, Code


@dataclass
class Book:
    """Counts of the peer for one device."""

    epoch: str = ""
    acked: int = 0
    readings: int = 0
    duplicates: int = 0
    declared: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)
    historical: int = 0
    gaps: list[device.Gap] = field(default_factory=list)


@dataclass
class Peer:
    """A hub with optional faults.

    It closes one connection after `closes_after` batches, is `silent` instead of acknowledging, says after the first
    batch that it `supersedes` the connection, does not show its books, or says that it `loses` readings. `busy` is set
    when every one of `awaits` devices has sent something.
    """

    url: str = ""
    closes_after: int = 0
    silent: bool = False
    shows_books: bool = True
    loses: int = 0
    supersedes: bool = False
    awaits: int = 0
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    books: dict[str, Book] = field(default_factory=dict)

    async def converse(self, connection: ServerConnection) -> None:
        try:
            await self._converse(connection)
        except ConnectionClosed:
            return

    async def _converse(self, connection: ServerConnection) -> None:
        spoken = FORMAT_OF_SUBPROTOCOL[connection.subprotocol or ""]
        session = HubDeviceSession(window=limits.DEFAULT_WINDOW)

        async def send(message: device.HubMessage) -> None:
            await connection.send(HUB_MESSAGES[spoken].encode(message), text=spoken == "json")

        hello = AGENT_MESSAGES[spoken].decode(await connection.recv(decode=False))
        assert isinstance(hello, device.Hello)
        book = self.books.setdefault(hello.device, Book())
        if book.epoch != hello.epoch:
            book.epoch, book.acked = hello.epoch, 0
        book.declared = [metric.name for metric in hello.metrics]
        book.tags = hello.tags
        session.receive(hello)
        session.welcome(acked=book.acked, received=book.acked)
        await send(device.Welcome("peer", book.acked, session.window, limits.MAX_BATCH_BYTES, 1, 1))
        batches = 0
        async for frame in connection:
            message = AGENT_MESSAGES[spoken].decode(frame)
            if isinstance(message, device.Declare):
                book.declared += [metric.name for metric in message.metrics]
            if isinstance(message, device.Gap):
                session.receive_batches(message.from_seq, message.to)
                book.gaps.append(message)
                session.commit(message.to)
            if not isinstance(message, device.Data):
                continue
            if session.receive_batches(message.seq, message.seq):
                times = unpack_times(message.time) if isinstance(message.time, bytes) else message.time
                book.readings += sum(
                    len(unpack_floats(column) if isinstance(column, bytes) else column)
                    for column in message.values.values()
                )
                book.times += times
                book.historical += len(times) if message.historical else 0
            else:
                book.duplicates += 1
            batches += 1
            if sum(each.readings > 0 for each in self.books.values()) == self.awaits:
                self.busy.set()
            if self.supersedes:
                await send(device.Error(Code.SUPERSEDED, "another agent took over"))
                await connection.close(Close.SUPERSEDED)
            if not self.silent and (ack := session.commit(message.seq)) is not None:
                book.acked = ack.seq
                await send(ack)
            if batches == self.closes_after:
                self.closes_after = 0
                await connection.close(Close.SERVICE_RESTART)

    def flow(self, connection: ServerConnection, request: Request) -> Response | None:
        """The books, asked for over plain HTTP; everything else is a WebSocket."""
        if not request.path.endswith("/api/v1/flow"):
            return None
        devices = [
            {
                "device": name,
                "accepted": book.readings,
                "stored": book.readings - self.loses,
                "duplicate_batches": book.duplicates,
            }
            for name, book in self.books.items()
        ]
        body = msgspec.json.encode({"devices": devices})
        status = http.HTTPStatus.OK if self.shows_books else http.HTTPStatus.FORBIDDEN
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(status.value, status.phrase, headers, body)


@asynccontextmanager
async def running_peer(**behaviour: bool | int) -> AsyncIterator[Peer]:
    """A peer on a free port."""
    peer = Peer(**behaviour)  # type: ignore[arg-type]
    async with serve(
        peer.converse,
        "127.0.0.1",
        0,
        compression=None,
        process_request=peer.flow,
        subprotocols=[Subprotocol(device.PROTOCOL_JSON), Subprotocol(device.PROTOCOL_MSGPACK)],
    ) as server:
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer
