"""Floods of frames against a real hub: other devices keep their acknowledgements, and the cost of a client is bounded.

The figures of "Cost of one client" in docs/security.md are bounds of these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest

from hub.http.connections import MAX_OF_VIEWER_TOKEN, MAX_UNAUTHENTICATED_PER_ADDRESS
from tests.conditions import result_of
from tests.end_to_end.hub import NO_TLS, Hub, running_hub
from tests.end_to_end.raw_websocket import CONT, PING, PONG, TEXT, End, frame, handshake, raw_websocket
from tests.end_to_end.witness import MAX_PROCESSOR, check_not_delayed, flooding
from wire import limits

PATHS = ("/v1/device", "/v1/live")

Kind = Literal["empty fragments", "fragmented messages", "pings", "pongs", "messages", "invalid"]
KINDS: dict[Kind, str | None] = {
    "empty fragments": "flood",
    "fragmented messages": None,
    "pings": "flood",
    "pongs": "flood",
    "messages": None,
    "invalid": "bad_frame",
}
"""Kinds of frames, and the reason in /metrics that counts them. Those without one are valid messages: they end a
session before the authentication, and are processed without end after it."""

HELLO = (
    b'{"type":"hello","device":"flooder","epoch":"00000000000000aa","next_seq":9,"durable":true,"time":1,'
    b'"metrics":[{"name":"f"}]}'
)
VALID = {
    "/v1/device": b'{"type":"data","seq":1,"time":[1],"values":{"f":[1.0]}}',
    "/v1/live": b'{"type":"ping","time_ms":1}',
}
"""A message that a session accepts again and again: the batch is a duplicate, and acknowledged each time."""

FRAGMENTS = 1000


def repeated(path: str, kind: Kind) -> tuple[bytes, bytes]:
    """Return what a flood of this kind sends first, and what it repeats."""
    message = VALID[path]
    match kind:
        case "empty fragments":
            return frame(TEXT, fin=False), frame(CONT, fin=False)
        case "fragmented messages":
            parts = [frame(TEXT, message, fin=False), *[frame(CONT, fin=False)] * (FRAGMENTS - 2), frame(CONT)]
            return b"", b"".join(parts)
        case "pings":
            return b"", frame(PING)
        case "pongs":
            return b"", frame(PONG)
        case "messages":
            return b"", frame(TEXT, message)
        case "invalid":
            return b"", frame(0x3)


async def prepared(hub: Hub, path: str, *, authenticated: bool) -> tuple[bytes, int]:
    """Return what opens a connection, and a session if `authenticated`; and the number of connections for a flood."""
    netloc = urlsplit(hub.url).netloc
    if not authenticated:
        return handshake(netloc, path), 4
    if path == "/v1/live":
        return handshake(netloc, path, token=await hub.token("viewer")), 4
    # A device has one connection: each further one would end it.
    token = await hub.token("device", "--device", "flooder")
    return handshake(netloc, path, token=token) + frame(TEXT, HELLO), 1


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for all floods."""
    async with running_hub(tmp_path_factory.mktemp("flood") / "data") as hub:
        yield hub


async def metric(hub: Hub, sample: str) -> float:
    """Return the value of one sample of /metrics."""
    async with httpx.AsyncClient(base_url=hub.url, verify=NO_TLS, timeout=30) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("authenticated", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_flood_does_not_delay_other_devices(hub: Hub, path: str, authenticated: bool) -> None:
    """Their p99 stays within twice its quiet value, for every kind of frame, before and after the authentication."""
    opening, connections = await prepared(hub, path, authenticated=authenticated)

    @contextlib.asynccontextmanager
    async def flood(kind: Kind, reason: str | None) -> AsyncIterator[None]:
        sample = f'hub_refused_requests_total{{reason="{reason}"}}'
        counted = await metric(hub, sample) if reason else 0
        first, again = repeated(path, kind)
        async with flooding(hub, opening + first, again, connections=connections):
            yield
        if reason:
            assert await metric(hub, sample) > counted

    floods = {str(kind): partial(flood, kind, reason) for kind, reason in KINDS.items()}
    # What a client with a token sends is processed without end, as long as nobody else needs the processor.
    max_processor = 1.0 if authenticated else MAX_PROCESSOR
    await check_not_delayed(hub, floods, max_processor=max_processor)
    assert '"level": "error"' not in hub.log()
    assert sum('"flood"' in line for line in hub.log().splitlines()) <= 5


async def test_the_time_to_authenticate_ends_whatever_is_sent(hub: Hub) -> None:
    """On every endpoint, for a client that sends a little all the time, while another client floods the hub."""
    opening, connections = await prepared(hub, "/v1/device", authenticated=True)
    _, again = repeated("/v1/device", "messages")
    async with flooding(hub, opening, again, connections=connections):
        ends = await asyncio.gather(*(trickle(hub, path) for path in (*PATHS, "/v1/plain")))
    for end, open_s in ends:
        assert (end.close, end.error) == (4401, "not_authenticated")
        assert limits.AUTHENTICATION_SECONDS - 1 < open_s < limits.AUTHENTICATION_SECONDS + 3


async def trickle(hub: Hub, path: str) -> tuple[End, float]:
    """Send fragments and pings within the bounds until the hub closes; return the end and the time it took."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    async with raw_websocket(hub.url, path) as socket:
        socket.writer.write(frame(TEXT, fin=False))
        reading = asyncio.create_task(socket.read_to_end())
        while not reading.done():
            socket.writer.write(frame(CONT, fin=False) + frame(PING))
            await asyncio.wait([reading], timeout=0.2)
        return await reading, loop.time() - begin_s


async def test_fragments_cost_no_memory(hub: Hub) -> None:
    """A hundred thousand fragments and more, in messages that never end the connection: less than 4 bytes each."""
    opening, connections = await prepared(hub, "/v1/device", authenticated=True)
    _, again = repeated("/v1/device", "fragmented messages")
    used: list[int] = []
    counted = [await metric(hub, "hub_duplicate_batches_total")]
    for _ in range(2):
        async with flooding(hub, opening, again, connections=connections):
            messages = counted[-1] + 100_000 / FRAGMENTS
            async with asyncio.timeout(40):
                counted.append(await result_of(partial(duplicates_beyond, hub, messages)))
            used.append(hub.memory_bytes())
    fragments = (counted[2] - counted[1]) * FRAGMENTS
    print(f"{fragments:,.0f} fragments, memory {used[0] >> 10} kB before and {used[1] >> 10} kB after them")
    assert used[1] - used[0] < max(4 * fragments, 1 << 20)


async def duplicates_beyond(hub: Hub, count: float) -> float | None:
    """Return the number of duplicate batches if there are more than this."""
    duplicates = await metric(hub, "hub_duplicate_batches_total")
    return duplicates if duplicates > count else None


async def test_unauthenticated_connections_are_bounded_in_number_and_memory(hub: Hub) -> None:
    """One address has at most 64, with at most 0.6 MB each, which is used again after them. The oldest gets `busy`."""
    most = MAX_UNAUTHENTICATED_PER_ADDRESS
    before, offset = hub.memory_bytes(), await metric(hub, "hub_journal_offset")
    peaks = [await memory_of_unfinished_messages(hub, most) for _ in range(2)]
    print(f"{most} unauthenticated connections: {[(peak - before) >> 10 for peak in peaks]} kB")
    assert await metric(hub, "hub_journal_offset") == offset
    assert peaks[0] - before < most * 0.6e6
    assert peaks[1] - peaks[0] < most * limits.MAX_BATCH_BYTES / 2


async def memory_of_unfinished_messages(hub: Hub, most: int) -> int:
    """Open more connections than one address may have, each with the longest message that is not complete.

    Return the hub's memory while they are open, after the hub has closed all of them.
    """
    unfinished = frame(TEXT, bytes(limits.MAX_BATCH_BYTES))[:-1]
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for _ in range(most + 4):
            socket = await stack.enter_async_context(raw_websocket(hub.url, "/v1/live"))
            socket.writer.write(unfinished)
            await socket.writer.drain()
            sockets.append(socket)
        for socket in sockets[:4]:
            end = await socket.read_to_end()
            assert (end.close, end.error) == (1013, "busy")
        used = hub.memory_bytes()
        for socket in sockets[4:]:
            end = await socket.read_to_end()
            assert (end.close, end.error) == (4401, "not_authenticated")
    return used


async def test_a_viewer_token_has_a_bound_of_connections(hub: Hub) -> None:
    """One more ends the oldest, with `busy`."""
    token = await hub.token("viewer")
    async with contextlib.AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(raw_websocket(hub.url, "/v1/live", token=token))
            for _ in range(MAX_OF_VIEWER_TOKEN + 1)
        ]
        end = await sockets[0].read_to_end()
        assert (end.close, end.error) == (1013, "busy")
        for socket in (sockets[1], sockets[-1]):
            assert b'"welcome"' in (await socket.read_frame())[1]
