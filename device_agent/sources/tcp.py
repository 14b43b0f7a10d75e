"""Lines over TCP: of a device or a gateway to which the source connects, or of devices that connect to the source."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from device_agent.sources import RepeatedWarning
from device_agent.sources.connection import READ_BYTES, Connection, ConnectionSource, PeerReader, SourceUnavailable
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import ForeignInput, ForeignSettings
from device_agent.sources.network import (
    Address,
    Network,
    is_allowed,
    keep_alive,
    network_reason,
    parse_address,
    parse_networks,
    plain_host,
)
from device_agent.sources.senders import MAX_SENDERS, Piece, Receiver, SenderReader
from device_agent.sources.settings import Seconds, SourceContext

OPEN_SECONDS = 10.0
"""Longest time for a connection to open."""

MAX_CONNECTIONS = MAX_SENDERS
"""Open connections of a source that listens. One more ends the one that was silent for the longest time."""

MAX_UNSENT_BYTES = 4096
"""Bytes that wait for a peer which does not read. At this bound a line is refused, and not sent at some later time."""

WAITING_PIECES = 16
"""Pieces of all connections that wait to be read. At this bound the connections are not read, and TCP slows them."""

_log = logging.getLogger(__name__)


class TcpSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of lines over TCP: the source connects to `address`, or listens there.

    `send` are lines that are sent first, to a device that waits for a request. With `whole_lines` a connection begins
    and ends with a line; else its first and its last one may be cut, and are skipped unless they prove that they are
    complete. `silence_s` is the longest time without data. `allow` are the networks that may connect.
    """

    address: str
    listen: bool = False
    send: tuple[str, ...] = ()
    whole_lines: bool = False
    silence_s: Seconds | None = None
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parse_address(self.address, is_own=self.listen)
        parse_networks(self.allow)
        if self.listen and self.send:
            raise ValueError("send is for a source that connects, and listen is set")
        if self.allow and not self.listen:
            raise ValueError("allow is for a source that listens: set listen, too")

    @property
    def default_name(self) -> str:
        return f"tcp {parse_address(self.address, is_own=self.listen)}"

    def source(self, context: SourceContext) -> ConnectionSource[Connection] | ConnectionSource[Receiver]:
        input, name = self.input(context), self.name or self.default_name
        address = parse_address(self.address, is_own=self.listen)
        if not self.listen:
            reader = PeerReader(input, is_whole=self.whole_lines, silence_s=self.silence_s)
            return ConnectionSource(LineReport(name, input, _log), reader, partial(connect_tcp, address, self.send))
        connect = partial(listen_tcp, address, input, parse_networks(self.allow), self.silence_s)
        return ConnectionSource(LineReport(name, input, _log, problem="not listening"), SenderReader(input), connect)


class TcpConnection:
    """Open connection whose bytes are read as they arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes | None:
        """Return the next bytes; None when the peer ended in order. Raises SourceUnavailable."""
        try:
            return await self._reader.read(READ_BYTES) or None
        except OSError as error:
            raise SourceUnavailable(network_reason(error)) from None

    def write(self, data: bytes) -> None:
        """Send bytes. Raises SourceUnavailable if the peer takes none, or the connection is lost."""
        transport = self._writer.transport
        if transport.is_closing():
            raise SourceUnavailable("the connection is lost; nothing was sent")
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise SourceUnavailable("the peer takes no more bytes; nothing was sent")
        self._writer.write(data)


@asynccontextmanager
async def connect_tcp(address: Address, send: Sequence[str], report: LineReport) -> AsyncIterator[Connection]:
    """Open a connection, and send these lines. Raises SourceUnavailable."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=READ_BYTES)
    except OSError as error:
        raise SourceUnavailable(network_reason(error)) from None
    try:
        keep_alive(writer.get_extra_info("socket"))
        for line in send:
            writer.write(line.encode() + b"\r\n")
        yield TcpConnection(reader, writer)
    finally:
        writer.transport.abort()


class TcpListener:
    """Open socket at which devices connect; the pieces of their connections wait in one bounded queue."""

    def __init__(
        self, input: ForeignInput, allowed: Sequence[Network], silence_s: float | None, report: LineReport
    ) -> None:
        self._input = input
        self._allowed = allowed
        self._silence_s = silence_s
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue(WAITING_PIECES)
        self._heard_s: dict[asyncio.Task[None], float] = {}
        """When something of each connection arrived last."""
        self._tasks: set[asyncio.Task[None]] = set()
        name = report.name
        self._ignored = RepeatedWarning(_log, f"{name} ignores connections of addresses that are not allowed")
        self._ended = RepeatedWarning(_log, f"{name} has {MAX_CONNECTIONS} connections, and ends the most silent one")

    async def receive(self) -> Piece:
        """Return what arrives next."""
        return await self._pieces.get()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one connection until it ends, is silent for too long, or is the most silent one of too many."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer = plain_host(writer.get_extra_info("peername")[0])
        try:
            if self._allowed and not is_allowed(peer, self._allowed):
                self._input.counts.ignored += 1
                self._ignored.record_failure(peer)
                return
            keep_alive(writer.get_extra_info("socket"))
            if len(self._heard_s) >= MAX_CONNECTIONS:
                self._ended.record_failure(f"{peer} connects")
                silent = min(self._heard_s, key=lambda other: self._heard_s[other])
                del self._heard_s[silent]
                silent.cancel()
            await self._read(task, reader)
        except OSError as error:
            _log.debug("the connection of %s ended: %s", peer, network_reason(error))
        except asyncio.CancelledError:
            _log.debug("the connection of %s was ended", peer)
        finally:
            writer.transport.abort()
            self._heard_s.pop(task, None)
            with suppress(asyncio.QueueFull):  # the sender is forgotten later, when it is the most silent one
                self._pieces.put_nowait(Piece(task, None))

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, task: asyncio.Task[None], reader: asyncio.StreamReader) -> None:
        """Pass on what a connection sends until its end. Raises OSError, also TimeoutError."""
        clock = asyncio.get_running_loop().time
        self._heard_s[task] = clock()
        while True:
            async with asyncio.timeout(self._silence_s):
                data = await reader.read(READ_BYTES)
            if not data:
                await self._pieces.put(Piece(task, None, in_order=True))
                return
            self._heard_s[task] = clock()
            await self._pieces.put(Piece(task, data))


@asynccontextmanager
async def listen_tcp(
    address: Address, input: ForeignInput, allowed: Sequence[Network], silence_s: float | None, report: LineReport
) -> AsyncIterator[Receiver]:
    """Listen for connections. Raises SourceUnavailable."""
    listener = TcpListener(input, allowed, silence_s, report)
    try:
        server = await asyncio.start_server(listener.serve, address.host or None, address.port, limit=READ_BYTES)
    except OSError as error:
        raise SourceUnavailable(network_reason(error)) from None
    try:
        yield listener
    finally:
        server.close()
        await listener.close()
