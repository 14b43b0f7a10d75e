"""Tests of the direct WebSocket: it delivers what websockets alone would, and uvicorn has the internals it uses."""

from __future__ import annotations

import asyncio
import gc
import socket as sockets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Close, Frame, Opcode
from websockets.server import ServerProtocol

from hub.app.services import HubServices
from hub.http.device_endpoint import AgentConnection
from hub.http.loop_share import LoopShares
from hub.http.websocket import OTHER_FRAME_WORK, TURN_FRAMES, DirectWebSocket
from hub.live.subscriber import Subscriber
from hub.model.identity import Role
from tests.conditions import until
from tests.end_to_end.raw_websocket import CLOSE, frame
from tests.hub.http.opened_hub import listening, new_token, opened_hub

LIMIT = 70_000
"""Above 65,535, where a length takes eight bytes."""

HANDSHAKE = (
    b"GET /v1/device HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport that records the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.reading = asyncio.Event()
        self.reading.set()

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True
        self.reading.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()


class Received(NamedTuple):
    """The result of a stream."""

    messages: list[tuple[bytes, bool]]
    written: bytes
    closed: bool
    ended: list[Any]


class Oracle(DirectWebSocket):
    """A connection whose frames are all read by websockets, without a bound of the work."""

    def data_received(self, data: bytes) -> None:
        if not self.close_sent:
            WebSocketsSansIOProtocol.data_received(self, data)


async def read(
    chunks: list[bytes], kind: type[DirectWebSocket] = DirectWebSocket, *, refuse: int | None = None, early: bytes = b""
) -> Received:
    """Pass chunks to a connection. Its application records messages and refuses the one with the number `refuse`."""
    accepted = asyncio.Event()
    ended: list[Any] = []
    messages: list[tuple[bytes, bool]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        direct = scope["extensions"]["telemetry.direct"]
        assert (await receive())["type"] == "websocket.connect"

        def record(payload: bytes, is_text: bool) -> None:
            messages.append((payload, is_text))
            if len(messages) == refuse:
                direct.refuse_text()

        direct.attach(record)
        await send({"type": "websocket.accept"})
        accepted.set()
        ended.append(await receive())

    config = Config(app, ws_max_size=LIMIT, ws_per_message_deflate=False)
    config.load()
    config.loaded_app = app
    connection = kind(config, ServerState(), {})
    wire = Wire()
    connection.connection_made(wire)
    connection.data_received(HANDSHAKE)
    if early:
        connection.data_received(early)
    await accepted.wait()
    begin = len(wire.written)
    for chunk in chunks:
        if not wire.closing:
            connection.data_received(chunk)
            await wire.reading.wait()
    closed = wire.closing or connection.close_sent
    connection.connection_lost(None)
    await asyncio.gather(*connection.tasks)
    return Received(messages, wire.written[begin:], closed, ended)


def masked(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a frame in the form that agents send."""
    return Frame(opcode, payload, fin).serialize(mask=True)


payloads = st.one_of(st.binary(max_size=140), st.sampled_from([bytes(125), bytes(126), bytes(65_535), bytes(65_536)]))
data_frames = st.builds(masked, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), payloads)
control_frames = st.builds(masked, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))
fragmented = st.builds(
    lambda first, between, last: (
        masked(Opcode.TEXT, first, fin=False) + between + masked(Opcode.CONT, b"more", fin=False) + last
    ),
    st.binary(max_size=20),
    st.one_of(st.just(b""), control_frames, data_frames),
    st.builds(masked, st.just(Opcode.CONT), st.binary(max_size=20)),
)
wrong = st.sampled_from(
    [
        masked(Opcode.BINARY, bytes(LIMIT + 1))[:40],
        Frame(Opcode.TEXT, b"unmasked").serialize(mask=False),
        bytes([0xC1, 0x80, 1, 2, 3, 4]),
        bytes([0x83, 0x80, 1, 2, 3, 4]),
        bytes([0x09, 0x80, 1, 2, 3, 4]),
        masked(Opcode.CONT, b"of nothing"),
        masked(Opcode.CLOSE, Close(1000, "bye").serialize()),
        masked(Opcode.CLOSE, b"x"),
    ]
)
frames = st.lists(st.one_of(data_frames, data_frames, control_frames, fragmented, wrong), max_size=8)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Return a stream in frames, and in the chunks that a network may deliver."""
    parts = draw(frames)
    whole = b"".join(parts)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return parts, [whole[a:b] for a, b in pairwise([0, *places, len(whole)]) if a < b]


@given(streams(), st.one_of(st.none(), st.integers(1, 3)))
def test_a_split_stream_has_the_same_result(stream: tuple[list[bytes], list[bytes]], refuse: int | None) -> None:
    """Messages, answers and the end are those of websockets, in whatever chunks the network delivers the stream."""
    parts, chunks = stream
    cut = asyncio.run(read(chunks, refuse=refuse))
    assert cut == asyncio.run(read(parts, Oracle, refuse=refuse))


@given(st.integers(1, 20), st.binary(max_size=12))
def test_bytes_before_the_answered_handshake_wait_for_it(early: int, payload: bytes) -> None:
    """They may end within a frame."""
    stream = masked(Opcode.BINARY, payload) * 3
    assert asyncio.run(read([stream[early:]], early=stream[:early])).messages == [(payload, False)] * 3


async def test_messages_bypass_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also messages after frames that only websockets can read."""
    passed: list[bytes] = []
    receive = ServerProtocol.receive_data

    def watch(protocol: ServerProtocol, data: bytes) -> None:
        passed.append(data)
        receive(protocol, data)

    monkeypatch.setattr(ServerProtocol, "receive_data", watch)
    others = masked(Opcode.PING, b"") + masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CONT, b"b")
    taken = await read([masked(Opcode.TEXT, b"x") + others, masked(Opcode.TEXT, b"y") * 2])
    assert taken.messages == [(b"x", True), (b"ab", True), (b"y", True), (b"y", True)]
    assert passed[0].startswith(b"GET")
    assert b"".join(passed[1:]) == others


class Opened(NamedTuple):
    """A connection after its handshake, whose application records messages."""

    socket: DirectWebSocket
    wire: Wire
    messages: list[bytes]


@asynccontextmanager
async def opened(shares: LoopShares | None = None) -> AsyncIterator[Opened]:
    """Open a connection to an application that is called directly."""
    accepted = asyncio.Event()
    messages: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["extensions"]["telemetry.direct"].attach(lambda payload, is_text: messages.append(payload))
        await send({"type": "websocket.accept"})
        accepted.set()
        await receive()

    config = Config(app, ws_max_size=LIMIT, ws_per_message_deflate=False)
    config.load()
    config.loaded_app = app
    socket = DirectWebSocket(config, ServerState(), {}, shares=shares)
    wire = Wire()
    socket.connection_made(wire)
    socket.data_received(HANDSHAKE)
    await accepted.wait()
    wire.written = b""
    yield Opened(socket, wire, messages)
    socket.connection_lost(None)
    await asyncio.gather(*socket.tasks)


async def test_one_turn_delivers_a_window_of_messages() -> None:
    """The others wait for the next turns, in order, and the socket is not read before the last one."""
    async with opened() as (socket, wire, messages):
        socket.admit()
        sent = [b"%d" % number for number in range(3 * TURN_FRAMES)]
        socket.data_received(b"".join(masked(Opcode.BINARY, payload) for payload in sent))
        for turns in (1, 2):
            assert len(messages) == turns * TURN_FRAMES
            assert not wire.reading.is_set()
            await asyncio.sleep(0)
        await wire.reading.wait()
        assert messages == sent


async def test_one_turn_answers_a_part_of_the_pings() -> None:
    """Frames that websockets reads are more work than messages."""
    shares = LoopShares()
    async with opened(shares) as (socket, wire, _):
        socket.data_received(masked(Opcode.PING, b"") * 90)
        assert wire.written == b"\x8a\x00" * (TURN_FRAMES // OTHER_FRAME_WORK)
        assert not wire.reading.is_set()
        await wire.reading.wait()
        assert wire.written == b"\x8a\x00" * 90
        # Its address has used a part of its share, which the next connection of the address finds.
        assert shares.addresses == 1


async def test_a_ping_is_answered_once_by_its_own_payload() -> None:
    """Alone, or among other frames. Another payload is no answer."""
    async with opened() as (socket, wire, messages):
        socket.admit()
        for end in (b"", masked(Opcode.BINARY, b"a")):
            wire.written = b""
            socket.send_keepalive_ping()
            header, payload = wire.written[:2], wire.written[2:]
            assert (header, len(payload), socket.pending_ping_payload) == (b"\x89\x04", 4, payload)
            other = bytes(byte ^ 1 for byte in payload)
            for refused in (masked(Opcode.PONG, other), masked(Opcode.PONG, b""), masked(Opcode.BINARY, payload)):
                socket.data_received(refused)
                assert socket.pending_ping_payload == payload
                assert socket.pong_timer is not None
            socket.data_received(masked(Opcode.PONG, payload) + end)
            assert (socket.pending_ping_payload, socket.pong_timer) == (None, None)
            assert socket.ping_timer is not None
            assert messages.pop(0) == payload
        assert messages == [b"a"]


async def test_a_full_read_ends_the_turn() -> None:
    """The event loop would read the same socket again before all others."""
    async with opened() as (socket, wire, messages):
        socket.admit()
        for _ in range(2):
            socket.data_received(masked(Opcode.BINARY, bytes(LIMIT - 10)) * 4)
            assert not wire.reading.is_set()
            await wire.reading.wait()
        assert len(messages) == 8


async def test_empty_fragments_are_not_kept() -> None:
    """A message has the same content without them."""
    async with opened() as (socket, wire, messages):
        socket.data_received(masked(Opcode.BINARY, b"a", fin=False) + masked(Opcode.CONT, b"", fin=False) * 900)
        await wire.reading.wait()
        assert socket.frames == [b"a"]
        socket.data_received(masked(Opcode.CONT, b"b"))
        await wire.reading.wait()
        assert messages == [b"ab"]


async def test_an_address_that_used_its_share_waits_before_its_token() -> None:
    """Not after it: the frames that waited are then delivered in the next turn."""
    shares = LoopShares()
    shares.charge("", 100, asyncio.get_running_loop().time())
    async with opened(shares) as (socket, wire, messages):
        socket.data_received(masked(Opcode.BINARY, b"a"))
        assert (messages, wire.reading.is_set()) == ([], False)
        await wire.reading.wait()
        assert messages == [b"a"]
        socket.admit()
        socket.data_received(masked(Opcode.BINARY, b"b"))
        assert messages == [b"a", b"b"]


@pytest.mark.parametrize("is_admitted", [False, True])
async def test_a_connection_that_closes_without_a_token_is_charged(is_admitted: bool) -> None:
    """Also if it has sent nothing: opening and closing connections in a loop takes the share of the address."""
    shares = LoopShares()
    async with opened(shares) as (socket, _, _):
        if is_admitted:
            socket.admit()
        assert shares.addresses == 0
    assert shares.addresses == (0 if is_admitted else 1)


async def test_a_closed_connection_keeps_no_received_bytes() -> None:
    """Neither an incomplete frame nor the last one that websockets has read."""
    payload = bytes(60_000)
    async with opened() as (socket, wire, _):
        socket.data_received(masked(Opcode.BINARY, payload, fin=False) + masked(Opcode.BINARY, payload))
        await wire.reading.wait()
        assert socket.close_sent
    gc.collect()
    kept = [found for found in gc.get_objects() if isinstance(found, Frame) and len(found.data) == len(payload)]
    assert kept == []


INTERNALS = (
    *("close_sent", "close_timer", "config", "conn", "curr_msg_data_type", "data_received", "disconnected", "frames"),
    *("handle_connect", "handle_cont", "handle_parser_exception", "handle_ping", "handshake_complete"),
    *("handshake_initiated", "initial_response", "loop", "queue", "read_paused", "receive", "run_asgi", "send"),
    *("send_receive_event_to_app", "transport", "writable"),
)


def test_uvicorn_has_the_internals_that_the_module_uses() -> None:
    """A version of uvicorn that renames one of them fails here, and not under load."""

    async def connect() -> set[str]:
        config = Config(app=lambda: None, ws_max_size=LIMIT)
        config.load()
        socket = DirectWebSocket(config, ServerState(), {})
        socket.connection_made(Wire())
        return {name for name in INTERNALS if not hasattr(socket, name)}

    assert asyncio.run(connect()) == set()
    assert issubclass(DirectWebSocket, WebSocketsSansIOProtocol)
    for method in ("handle_connect", "send_receive_event_to_app", "handle_ping", "data_received"):
        assert method in vars(WebSocketsSansIOProtocol), f"uvicorn no longer calls {method}"


ENDS = ("reset at once", "reset after the answer", "closed", "refused")


async def test_a_closed_connection_is_freed_without_the_collector(tmp_path: Path) -> None:
    """Its objects refer to each other in no cycle: the collector runs so rarely that churn would double the memory."""
    gc.collect()
    # The collector leaves out what there is before: 100 times as many objects, some of them of other tests.
    gc.freeze()
    try:
        async with opened_hub(tmp_path / "data") as services, listening(services) as url:
            for path, role in (("/v1/device", Role.GATEWAY), ("/v1/live", Role.VIEWER)):
                token = await new_token(services, role)
                head = HANDSHAKE.replace(b"/v1/device", path.encode()).replace(b"Host: h", b"Host: 127.0.0.1")
                for end in ENDS:
                    for further in ("", f"Authorization: Bearer {token}\r\n"):
                        if end == "refused":
                            further += "Sec-WebSocket-Protocol: unknown\r\n"
                        request = head.removesuffix(b"\r\n") + f"{further}\r\n".encode()
                        await _check_that_connections_are_freed(services, url, request, end)
    finally:
        gc.unfreeze()


async def _check_that_connections_are_freed(services: HubServices, url: str, request: bytes, end: str) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await _open_and_end(url, request, end)
        await until(lambda: not len(services.connections) and not _alive())
    finally:
        gc.enable()


def _alive() -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, DirectWebSocket | AgentConnection | Subscriber)]


async def _open_and_end(url: str, request: bytes, end: str) -> bytes:
    """Open a connection, and end it as a client does; return what it received."""
    host, _, port = url.removeprefix("ws://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    raw = writer.get_extra_info("socket")
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(request)
    answer = b""
    if end != "reset at once":
        answer = await reader.readuntil(b"\r\n\r\n")
        assert (b" 101 " in answer) is (end != "refused"), answer
    if end == "closed":
        writer.write(frame(CLOSE))
        await reader.read()
    writer.transport.abort()
    return answer
