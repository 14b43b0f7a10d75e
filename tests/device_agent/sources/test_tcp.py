"""Lines over TCP, on real sockets: a device that is connected to, and devices that connect."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from msgspec import ValidationError, convert

from device_agent.sources.settings import SourceContext
from device_agent.sources.tcp import MAX_CONNECTIONS, TcpSettings
from tests.conditions import until
from tests.device_agent.collected import Collected, collected

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def device(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """A device that listens; the port."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def reading(address: str, **settings: object) -> AsyncIterator[Collected]:
    source = convert({"address": address, **settings}, TcpSettings).source(SourceContext("boat"))
    source._retry_s = 0.01
    async with collected(source) as found:
        yield found


@asynccontextmanager
async def listening(**settings: object) -> AsyncIterator[tuple[Collected, int]]:
    """A source that listens, and its port."""
    port = free_port()
    async with reading(f"127.0.0.1:{port}", listen=True, **settings) as found:
        await until(lambda: is_open(port))
        yield found, port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def sending(
    port: int, data: bytes = b"", ends: list[asyncio.StreamReader] | None = None
) -> AsyncIterator[asyncio.StreamWriter]:
    """A device that connects and sends this first. What it receives is added to `ends`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if ends is not None:
            ends.append(reader)
        yield writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_lines_of_a_device_are_readings_through_its_restarts() -> None:
    """A connection that begins in the middle of a line loses this one, and NMEA proves that it is complete."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"07,T*14\r\n$IIHDT,27" if connections == 1 else b"$IIHDT,90.0,T*1B\r\n")
        await writer.drain()
        if connections == 1:
            await asyncio.sleep(0)
            writer.write(b"4.07,T*14\r\n$IIHDT,1")
        else:
            await reader.read()

    async with device(serve) as port, reading(f"127.0.0.1:{port}") as found:
        await found.until_values({"heading": 274.07}, {"heading": 90.0})
    assert found.errors == ["no connection: the peer closed the connection", None]
    assert (found.refused, found.counts.skipped) == ([], 2)


async def test_a_device_that_is_absent_is_a_failure_until_it_returns() -> None:
    """The error has the remedy, and the source connects by itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"t": 21.5}\n')
        await reader.read()

    port = free_port()
    async with reading(f"localhost:{port}") as found:
        await found.until_error("no connection: nothing listens there; is the device or the program running?")
        async with device(serve, port):
            await found.until_values({"t": 21.5})
            assert found.source.health.error is None
    async with reading("no-such-host.invalid:1") as found:
        await found.until_error("the name of the host is unknown")


async def test_a_request_is_sent_first() -> None:
    """For a device that waits for one; with whole lines its first and last lines count."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readline())
        writer.write(b"t=1 h=40\nt=2 h=40")

    async with device(serve) as port, reading(f"127.0.0.1:{port}", send=["START"], whole_lines=True) as found:
        await until(lambda: len(found.values) >= 2)
    assert requests[0] == b"START\r\n"
    assert found.values[:2] == [{"t": 1, "h": 40}, {"t": 2, "h": 40}]


async def test_silence_ends_the_connection() -> None:
    """A device that lost its power does not close it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"t": 1}\n')
        await reader.read()

    async with device(serve) as port, reading(f"127.0.0.1:{port}", silence_s=0.1) as found:
        await found.until_error("nothing arrived for 0.1 s")
        await until(lambda: len(found.values) >= 2)


@pytest.mark.parametrize("listen", [True, False])
async def test_an_endless_line_costs_one_refusal(listen: bool) -> None:
    """However long it is, little of it is kept, and the next line is read."""
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b'{"n": 1}\n')
        for _ in range(20):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 1
        writer.write(b'\n{"n": 2}\n')
        await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await flood(writer)
        await reader.read()

    if listen:
        async with listening() as (found, port), sending(port) as writer:
            await flood(writer)
            await found.until_values({"n": 1}, {"n": 2})
    else:
        async with device(serve) as port, reading(f"127.0.0.1:{port}") as found:
            await found.until_values({"n": 1}, {"n": 2})
    assert ([refusal.code for refusal in found.refused], sent) == (["size"], 20)
    assert len(found.refused[0].raw) <= 4096


async def test_a_flood_leaves_time_for_others() -> None:
    """A device that always sends does not keep the agent from other work."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"noise\n" * 10_000)
            await writer.drain()

    turns = 0
    async with device(serve) as port, reading(f"127.0.0.1:{port}") as found:
        await until(lambda: len(found.refused) > 100)
        seen = len(found.refused)
        while len(found.refused) < seen + 6000:
            await asyncio.sleep(0)
            turns += 1
    assert turns > 6  # a turn is at most a read of 4 kB, which has 700 lines


async def test_each_connection_has_its_own_format() -> None:
    """Lines of devices are not mixed, wherever they are cut, and a last line without an end counts."""
    async with (
        listening() as (found, port),
        sending(port, b'{"a": 1}\n{"a"') as first,
        sending(port, b"$IIHDT,274.07,T*14\r\n") as second,
    ):
        await until(lambda: len(found.values) == 2)
        assert found.counts.senders == 2
        first.write(b': 2}\n{"a": 3}')
        first.close()
        second.write(b"$IIHDT,90.0,T*1B\r\n")
        await until(lambda: len(found.values) == 5)
        second.close()
        await until(lambda: found.counts.senders == 0)
    assert [row["a"] for row in found.values if "a" in row] == [1, 2, 3]
    assert [row["heading"] for row in found.values if "heading" in row] == [274.07, 90.0]
    assert found.refused == []


async def test_a_connection_too_many_ends_the_most_silent_one() -> None:
    """So a stranger with many connections cannot keep a sensor that sends from being read."""
    ends: list[asyncio.StreamReader] = []
    async with listening() as (found, port), AsyncExitStack() as devices:

        async def connect(number: int) -> asyncio.StreamWriter:
            return await devices.enter_async_context(sending(port, b'{"n": %d}\n' % number, ends))

        writers = [await connect(number) for number in range(MAX_CONNECTIONS)]
        await until(lambda: len(found.values) == MAX_CONNECTIONS)
        writers[0].write(b'{"n": 100}\n')
        await until(lambda: {"n": 100} in found.values)
        await connect(101)
        await until(lambda: {"n": 101} in found.values)
        writers[0].write(b'{"n": 102}\n')
        await until(lambda: {"n": 102} in found.values)
        assert found.counts.senders == MAX_CONNECTIONS
        await until(lambda: [number for number, end in enumerate(ends) if end.at_eof()] == [1])


async def test_strangers_are_ignored() -> None:
    """Only the networks that are allowed may connect."""
    async with listening(allow=["192.0.2.0/24"]) as (found, port), sending(port, b'{"n": 1}\n'):
        await until(lambda: found.counts.ignored == 2)  # the first one is the probe
    assert found.values == []
    async with listening(allow=["127.0.0.0/8"]) as (found, port), sending(port, b'{"n": 1}\n'):
        await found.until_values({"n": 1})


async def test_a_port_that_is_used_is_a_failure_until_it_is_free() -> None:
    """The error says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with reading(f"127.0.0.1:{port}", listen=True) as found:
            await found.until_error("not listening: another program uses the port; stop it, or choose another port")
            taken.close()
            await until(lambda: found.source.health.error is None)
            async with sending(port, b'{"n": 1}\n'):
                await found.until_values({"n": 1})


async def test_a_source_that_stops_leaves_no_connection() -> None:
    """Also one that waits because nobody reads."""
    source = TcpSettings(address=f"127.0.0.1:{free_port()}", listen=True).source(SourceContext("boat"))
    readings = source.readings()
    first = asyncio.ensure_future(anext(readings))
    port = int(source.report.name.rpartition(":")[2])
    await until(lambda: is_open(port))
    ends: list[asyncio.StreamReader] = []
    async with sending(port, b'{"n": 1}\n' * 20_000, ends):
        assert (await first).values == {"n": 1}
        await readings.aclose()
        assert not is_open(port)
        with suppress(ConnectionResetError):
            assert await ends[0].read() == b""
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
    assert not any("TcpListener" in name for name in names)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"address": "gps"}, "'gps' is not an address: write HOST:PORT"),
        ({"address": "gps:0"}, "is not an address"),
        ({"address": "gps:99999"}, "is not an address"),
        ({"address": "::1:80"}, "is not an address"),
        ({"address": "10110", "listen": True, "send": ["x"]}, "send is for a source that connects"),
        ({"address": "gps:1", "allow": ["10.0.0.0/8"]}, "allow is for a source that listens"),
        ({"address": "1", "listen": True, "allow": ["kitchen"]}, "'kitchen' is not a network"),
        ({"address": "gps:1", "silence_s": 0}, "Expected `float` > 0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, object], reason: str) -> None:
    """Each names the value and the form."""
    with pytest.raises(ValidationError, match=reason.replace("(", r"\(")):
        convert(settings, TcpSettings)
