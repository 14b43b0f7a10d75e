"""Mirrors of a port: real connections and ptys of serial monitors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from device_agent.sources.ports.mirror import (
    MAX_MONITORS,
    MAX_WAITING_BYTES,
    MirrorAddress,
    TcpMirror,
    mirror_address,
    open_mirror,
)
from device_agent.sources.ports.posix import PtyMirror
from tests.conditions import until


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("7001", MirrorAddress("127.0.0.1", 7001)),
        ("localhost:7001", MirrorAddress("localhost", 7001)),
        ("[::1]:7001", MirrorAddress("::1", 7001)),
        ("127.0.0.1:0", MirrorAddress("127.0.0.1", 0)),
        ("/tmp/monitor", MirrorAddress(path="/tmp/monitor")),
        ("run/monitor", MirrorAddress(path="run/monitor")),
    ],
)
def test_a_mirror_is_a_port_of_this_computer_or_a_path(text: str, address: MirrorAddress) -> None:
    """Its form decides."""
    assert mirror_address(text) == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [("0.0.0.0:7001", "open to other"), ("lab:7001", "open to other"), ("70000", "no port"), ("x", "unknown")],
)
def test_a_mirror_is_open_to_this_computer_only(text: str, problem: str) -> None:
    """Because it has no password."""
    with pytest.raises(ValueError, match=problem):
        mirror_address(text)


@asynccontextmanager
async def tcp_mirror() -> AsyncIterator[tuple[TcpMirror, tuple[str, int]]]:
    mirror = await open_mirror(mirror_address("0"))
    assert isinstance(mirror, TcpMirror)
    host, port = mirror.name.split(":")
    try:
        yield mirror, (host, int(port))
    finally:
        mirror.close()


async def test_monitors_get_the_same_bytes() -> None:
    """Each from its connection on; what they send means nothing, and one that ends is forgotten."""
    async with tcp_mirror() as (mirror, address):
        reader, writer = await asyncio.open_connection(*address)
        await until(lambda: len(mirror.monitors) == 1)
        mirror.feed(b"\x00first")
        other_reader, other_writer = await asyncio.open_connection(*address)
        await until(lambda: len(mirror.monitors) == 2)
        writer.write(b"x" * 100_000)
        mirror.feed(b" second\xff")
        assert await reader.readexactly(14) == b"\x00first second\xff"
        assert await other_reader.readexactly(8) == b" second\xff"
        writer.close()
        await until(lambda: len(mirror.monitors) == 1)
    assert await other_reader.read() == b""
    other_writer.close()


async def test_a_slow_monitor_loses_bytes_that_are_counted() -> None:
    """The bytes that wait for it are bounded; it continues with whole pieces behind a line that counts the rest."""
    piece = bytes(range(256)) * 16
    async with tcp_mirror() as (mirror, address):
        with socket.create_connection(address) as slow:
            await until(lambda: mirror.monitors)
            (monitor,) = mirror.monitors
            waiting = []
            for _ in range(4000):
                mirror.feed(piece)
                waiting.append(monitor.transport.get_write_buffer_size())
            assert max(waiting) <= MAX_WAITING_BYTES
            slow.settimeout(0)
            data = bytearray()

            def read_some() -> bool:
                try:
                    data.extend(slow.recv(1 << 20))
                except BlockingIOError:
                    mirror.feed(piece)
                return b"left out]\r\n" in data and data.endswith(piece)

            await until(read_some)
    before, _, after = bytes(data).partition(b"\r\n[device-agent: ")
    count, _, rest = after.partition(b" bytes left out]\r\n")
    assert len(before) % len(piece) == 0
    assert int(count.replace(b",", b"")) % len(piece) == 0
    assert rest == piece * (len(rest) // len(piece))


async def test_monitors_are_bounded() -> None:
    """One more than the bound gets the reason."""
    async with tcp_mirror() as (mirror, address):
        connections = [await asyncio.open_connection(*address) for _ in range(MAX_MONITORS)]
        await until(lambda: len(mirror.monitors) == MAX_MONITORS)
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b"device-agent: 8 monitors are connected already\r\n"
        for _, open_writer in [*connections, (reader, writer)]:
            open_writer.close()


async def read_until(monitor: int, end: bytes) -> bytes:
    data = bytearray()

    def read() -> bool:
        with suppress(BlockingIOError):
            data.extend(os.read(monitor, 1 << 16))
        return data.endswith(end)

    await until(read)
    return bytes(data)


async def test_a_pty_is_a_mirror_that_a_monitor_opens_like_a_port(tmp_path: Path) -> None:
    """It is read only, holds the newest bytes while nobody reads, and is removed at the end."""
    path = tmp_path / "monitor"
    path.symlink_to("/dev/pts/of-a-killed-agent")
    mirror = await open_mirror(mirror_address(str(path)))
    assert isinstance(mirror, PtyMirror)
    for number in range(100_000):
        mirror.feed(b"%5d\n" % number)
    monitor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    assert len(await read_until(monitor, b"99999\n")) < 200_000
    os.write(monitor, b"x" * 2000)
    mirror.feed(b"new\x00\xff\n")
    assert await read_until(monitor, b"\xff\n") == b"new\x00\xff\n"
    os.close(monitor)
    mirror.close()
    mirror.close()
    assert not path.is_symlink()


async def test_a_file_is_not_replaced_by_a_mirror(tmp_path: Path) -> None:
    """Only a link is."""
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        await open_mirror(mirror_address(str(path)))
    assert path.read_text() == "mine"
